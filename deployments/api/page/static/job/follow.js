// Follows the events of a job, and comes back where it left off after every cut.

import { eventsOf } from "../api.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;

/**
 * Follows one file of a job until the service says that it is done.
 * @param {string} id
 * @param {number} file
 * @param {{onSegment: (segment: object) => void, onJob: (job: object) => void, onLost: (lost: boolean) => void, onDone: () => void}} calls
 * @returns {() => void} stops following
 */
export function follow(id, file, { onSegment, onJob, onLost, onDone }) {
  let source = null;
  let timer = 0;
  let after = 0; // segments that we have
  let wait_ms = FIRST_WAIT_MS;
  let ended = false;

  const stop = () => {
    ended = true;
    clearTimeout(timer);
    source?.close();
    removeEventListener("online", now);
  };
  const open = () => {
    source = new EventSource(eventsOf(id, file, after));
    source.onopen = () => {
      wait_ms = FIRST_WAIT_MS;
      onLost(false);
    };
    source.onmessage = ({ data }) => {
      if (data === "[DONE]") {
        stop();
        onDone();
        return;
      }
      const event = JSON.parse(data);
      if (event.type === "job") onJob(event.job);
      if (event.type === "segment" && event.index >= after) {
        after = event.index + 1;
        onSegment(event);
      }
    };
    // A browser comes back by itself after a cut, but not after an answer like 503.
    source.onerror = () => {
      if (ended) return;
      onLost(true);
      source.close();
      timer = setTimeout(open, wait_ms);
      wait_ms = Math.min(LONGEST_WAIT_MS, wait_ms * 2);
    };
  };
  const now = () => {
    if (source?.readyState !== EventSource.CLOSED) return;
    clearTimeout(timer);
    open();
  };
  addEventListener("online", now);
  open();
  return stop;
}
