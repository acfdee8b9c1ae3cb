// Every sentence of the page, in Chinese and English.

/** @type {Record<string, [string, string]>} */
const WORDS = {
  title: ["转写", "Transcribe"],
  skip: ["跳到正文", "Skip to the content"],
  jobs: ["转写任务", "Jobs"],
  keys: ["快捷键", "Keyboard shortcuts"],
  keysOn: ["启用单键快捷键", "Single keys on"],
  toDark: ["切换到深色", "Switch to dark"],
  toLight: ["切换到浅色", "Switch to light"],
  signOut: ["退出", "Sign out"],
  signIn: ["登录", "Sign in"],
  key: ["密钥", "Key"],
  keyHint: ["请输入管理员给你的密钥。", "Enter the key that your administrator gave you."],
  keyWrong: ["这个密钥不对，或者已经停用。", "This key is wrong or no longer valid."],
  close: ["关闭", "Close"],
  // start
  newJob: ["新建转写", "New transcription"],
  heading: ["把录音变成文字", "Turn recordings into text"],
  lead: ["选好录音，按“开始转写”。文字会一句一句出现；上传完以后，关掉页面也不会丢。", "Choose recordings and press Start. The text appears sentence by sentence. Once the upload is through, you may close the page."],
  leadOff: ["选好录音，按“开始转写”。这里不保存记录，请不要关掉页面。", "Choose recordings and press Start. Nothing is kept here, so leave the page open."],
  drop: ["把录音或视频拖到这里，也可以直接粘贴", "Drop recordings or videos here, or paste them"],
  dropNow: ["松手即可添加", "Let go to add"],
  choose: ["选择文件", "Choose files"],
  kinds: ["wav、mp3、m4a、flac、opus、amr、mp4、mkv 等，可一次选多个", "wav, mp3, m4a, flac, opus, amr, mp4, mkv and more; several at once"],
  record: ["录音", "Record"],
  stopRecord: ["停止录音", "Stop"],
  pause: ["暂停", "Pause"],
  resume: ["继续", "Go on"],
  recording: ["正在录音 {time}，已存 {saved}", "Recording {time}, {saved} saved"],
  recordPaused: ["录音已暂停 {time}", "Paused at {time}"],
  noMicrophone: ["用不了麦克风：{why}", "The microphone cannot be used: {why}"],
  notSecure: ["浏览器只在 HTTPS 或本机地址上允许使用麦克风。", "Browsers allow the microphone over HTTPS or on localhost only."],
  recovered: ["上次没送出的录音，已找回", "Recovered: recorded earlier and not sent"],
  recordedAt: ["录音 {when}", "Recording {when}"],
  link: ["链接", "Link"],
  linkHint: ["录音的网址，例如 https://…", "Address of a recording, such as https://…"],
  addLink: ["添加", "Add"],
  linkWrong: ["网址要以 http:// 或 https:// 开头。", "The address must begin with http:// or https://."],
  options: ["选项", "Options"],
  hotwords: ["热词，每行一个：人名、地名、术语", "Hotwords, one a line: names, places, terms"],
  itn: ["把口语数字写成阿拉伯数字（“百分之三”写成“3%”）", "Write spoken numbers in digits"],
  start: ["开始转写", "Start"],
  startN: ["开始转写（{n}）", "Start ({n})"],
  nothing: ["先选一段录音。", "Choose a recording first."],
  chosen: ["已选择", "Chosen"],
  remove: ["移除 {name}", "Remove {name}"],
  sending: ["本次提交", "Sent from this page"],
  // uploads
  waitingUpload: ["等待上传", "Waiting to be sent"],
  uploading: ["上传中 {percent}% · {done} / {total} · {speed}/s · 还需 {left}", "Uploading {percent}% · {done} of {total} · {speed}/s · {left} left"],
  uploaded: ["已送达，正在登记任务…", "Sent, the job is being made…"],
  submitting: ["正在提交…", "Submitting…"],
  uploadLost: ["连接断开，{seconds} 秒后自动重试", "Connection lost, trying again in {seconds} s"],
  uploadBusy: ["服务正忙，{seconds} 秒后自动重试", "The service is busy, trying again in {seconds} s"],
  uploadFailed: ["没有成功：{why}", "Failed: {why}"],
  retry: ["重试", "Try again"],
  open: ["查看", "Open"],
  dismiss: ["不再显示 {name}", "Dismiss {name}"],
  leaving: ["正在上传", "Uploading"],
  uploadsAtWork: ["正在上传 {n} 个", "{n} uploading"],
  // states
  queued: ["排队中", "Waiting"],
  processing: ["识别中", "Recognising"],
  completed: ["已完成", "Done"],
  failed: ["失败", "Failed"],
  canceled: ["已取消", "Canceled"],
  ahead: ["前面还有 {n} 个文件", "{n} files ahead"],
  ahead1: ["前面还有 1 个文件", "1 file ahead"],
  next: ["下一个就是它", "Next in line"],
  queuedLong: ["录音已收到，正在排队。可以关掉页面，稍后回来看。", "The recording has arrived and waits its turn. You may close the page and come back."],
  progressed: ["已识别 {done} / {total}", "{done} of {total} recognised"],
  progressUnknown: ["正在读取录音…", "Reading the recording…"],
  endsAt: ["预计 {when} 完成", "ready at about {when}"],
  failedLong: ["这段录音没能转写", "This recording could not be transcribed"],
  canceledLong: ["任务已取消。已经识别出的文字留在下面。", "The job was canceled. The text so far is below."],
  lost: ["连接断开，正在重新连接…文字不会丢。", "Connection lost, reconnecting… No text is lost."],
  back: ["连接已恢复", "Connected again"],
  offline: ["连不上服务，正在重试…", "The service cannot be reached, trying again…"],
  noSpeech: ["没有听到说话声。", "No speech was found."],
  soon: ["文字很快会出现在这里", "The text will appear here"],
  // job
  rename: ["改名", "Rename"],
  name: ["名称", "Name"],
  save: ["保存", "Save"],
  cancel: ["取消", "Cancel"],
  cancelJob: ["取消任务", "Cancel the job"],
  remove1: ["删除", "Delete"],
  removeAsk: ["删除“{name}”？录音、文字和修改都会删掉，不能恢复。", "Delete “{name}”? The recording, the text and your edits are removed for good."],
  removed: ["已删除", "Deleted"],
  more: ["更多操作", "More actions"],
  file: ["文件", "File"],
  export: ["导出", "Export"],
  exported: ["已导出 {name}", "Exported {name}"],
  copy: ["复制全文", "Copy the text"],
  copied: ["已复制", "Copied"],
  srt: ["SRT 字幕", "SRT subtitles"],
  vtt: ["WebVTT 字幕", "WebVTT subtitles"],
  text: ["纯文本 txt", "Plain text (txt)"],
  json: ["JSON，含时间", "JSON with times"],
  lrc: ["LRC 歌词", "LRC lyrics"],
  docx: ["Word 文档 docx", "Word document (docx)"],
  transcript: ["文字稿", "Transcript"],
  sentences: ["{n} 句", "{n} sentences"],
  playFrom: ["从 {time} 播放：{text}", "Play from {time}: {text}"],
  editLine: ["修改 {time} 的文字", "Edit the text at {time}"],
  editing: ["文字，{time}", "Text at {time}"],
  edited: ["已修改", "Edited"],
  original: ["恢复原文", "Original"],
  saving: ["正在保存…", "Saving…"],
  saved: ["修改已保存", "Edits saved"],
  notSaved: ["修改没有保存：{why}", "Edits were not saved: {why}"],
  toEnd: ["跟到最新一句", "Go to the newest"],
  // search
  search: ["查找", "Find"],
  searchAll: ["查找和替换", "Find and replace"],
  replaceWith: ["替换为", "Replace with"],
  hits: ["第 {at} 处，共 {n} 处", "{at} of {n}"],
  noHits: ["没有找到", "Nothing found"],
  previous: ["上一处", "Previous"],
  nextHit: ["下一处", "Next"],
  replace: ["替换", "Replace"],
  replaceAll: ["全部替换", "Replace all"],
  replaced: ["已替换 {n} 处", "{n} replaced"],
  undo: ["撤销", "Undo"],
  // player
  player: ["播放器", "Player"],
  play: ["播放", "Play"],
  back5: ["后退 5 秒", "Back 5 s"],
  forward5: ["前进 5 秒", "Forward 5 s"],
  speed: ["速度", "Speed"],
  position: ["播放位置", "Position"],
  ofTime: ["{at}，共 {total}", "{at} of {total}"],
  noAudio: ["录音放不出来。", "The recording cannot be played."],
  // jobs
  none: ["还没有任务", "No jobs yet"],
  noneHint: ["转写过的录音会列在这里。", "What you transcribe is listed here."],
  moreJobs: ["更早的任务", "Older jobs"],
  noHistory: ["这里没有开启任务，所以没有记录。", "Jobs are off here, so there is no history."],
  // keys
  kPlay: ["播放、暂停", "Play, pause"],
  kJump: ["后退、前进 5 秒", "Back, forward 5 s"],
  kSpeed: ["减速、加速", "Slower, faster"],
  kLines: ["上一句、下一句", "Previous, next sentence"],
  kEnter: ["播放这一句", "Play this sentence"],
  kEdit: ["修改这一句", "Edit this sentence"],
  kSearch: ["查找", "Find"],
  // errors
  eNetwork: ["连不上服务。", "The service cannot be reached."],
  eStatus: ["服务返回了错误 {status}。", "The service answered with error {status}."],
  eGone: ["没有这个任务，可能已经删除或过期。", "There is no such job. It may have been deleted or has expired."],
};

const REMEMBERED = "language";

/** Whether the page is in Chinese. */
export const isChinese = () => document.documentElement.lang.startsWith("zh");

/**
 * The sentence in the language of the page, with its blanks filled.
 * @param {keyof typeof WORDS} key
 * @param {Record<string, string | number>} [blanks]
 */
export function t(key, blanks = {}) {
  const sentence = WORDS[key][isChinese() ? 0 : 1];
  return sentence.replace(/\{(\w+)\}/g, (_, name) => String(blanks[name]));
}

/** Switches the language and keeps the choice. Who shows words listens for `language`. */
export function switchLanguage() {
  const chosen = isChinese() ? "en" : "zh";
  remember(REMEMBERED, chosen);
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
  dispatchEvent(new Event("language"));
}

/** Fills the words of the elements that are written in the HTML. */
export function translate(root = document) {
  for (const one of root.querySelectorAll("[data-t]")) one.textContent = t(one.dataset.t);
  for (const one of root.querySelectorAll("[data-label]")) {
    one.setAttribute("aria-label", t(one.dataset.label));
    one.title = one.tagName === "NAV" ? "" : t(one.dataset.label);
  }
}

/** Keeps a choice of the reader, where the browser allows it. */
export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // storage is switched off: the choice lasts until the page is left
  }
}

/** A choice that was kept, or null. */
export function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Seconds as 1:02 or 1:02:03. */
export function clock(seconds) {
  const s = Math.max(0, Math.floor(seconds || 0));
  const two = (n) => String(n).padStart(2, "0");
  const [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}

/** Bytes for a reader: 3.4 MB. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const [unit, by] = bytes < 1e6 ? ["kB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  const value = bytes / by;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

/** A moment (Unix seconds): the time of today, else the date with the time. */
export function moment(unix_s) {
  const date = new Date(unix_s * 1000);
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { month: "short", day: "numeric" };
  return date.toLocaleString(document.documentElement.lang, { ...day, hour: "2-digit", minute: "2-digit" });
}
