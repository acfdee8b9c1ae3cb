// Keeps the slices of a recording in IndexedDB until the service has acknowledged them.

const NAME = "paraformer-recordings";
let opened;

/** The database, made at first use. */
function database() {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => {
      asked.result.createObjectStore("recordings", { keyPath: "id" });
      asked.result.createObjectStore("slices", { keyPath: ["recording", "n"] });
    };
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opened;
}

/** Runs `act` in one transaction over both stores; resolves once it is on the disk. */
async function within(mode, act) {
  const transaction = (await database()).transaction(["recordings", "slices"], mode);
  const asked = act(transaction.objectStore("recordings"), transaction.objectStore("slices"));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(asked?.result);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

const of = (id) => IDBKeyRange.bound([id, 0], [id, Infinity]);

/** Notes a recording. @param {{id: string, type: string, began_at: number, seconds: number}} recording */
export const keep = (recording) => within("readwrite", (recordings) => recordings.put(recording));

/** Adds a slice to its recording. */
export const add = (id, n, blob) => within("readwrite", (_, slices) => slices.put({ recording: id, n, blob }));

/** Forgets a recording: it was acknowledged, or the reader threw it away. */
export const forget = (id) =>
  within("readwrite", (recordings, slices) => {
    recordings.delete(id);
    slices.delete(of(id));
  });

/** The whole recording as one file. */
export async function assembled(recording) {
  const found = await within("readonly", (_, slices) => slices.getAll(of(recording.id)));
  return new Blob(found.map((slice) => slice.blob), { type: recording.type });
}

const lockOf = (id) => `${NAME}:${id}`;

/** Holds the recording as ours until the promise given settles: no other tab takes it up. */
export function hold(id, until) {
  navigator.locks?.request(lockOf(id), () => until).catch(() => {});
}

/** The recordings that a reload, a crash or a full network left, each with its file. */
export async function leftOver() {
  if (!globalThis.indexedDB) return [];
  const all = await within("readonly", (recordings) => recordings.getAll());
  const held = new Set((await navigator.locks?.query())?.held.map((lock) => lock.name));
  const found = [];
  for (const recording of all.filter((one) => !held.has(lockOf(one.id)))) {
    const blob = await assembled(recording);
    if (blob.size) found.push({ ...recording, blob });
    else await forget(recording.id);
  }
  return found;
}
