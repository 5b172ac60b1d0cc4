/**
 * The page at "/": sends one image to POST /segment and draws the answer.
 * Whatever the server or a file name says enters the page through textContent.
 *
 * @typedef {{id: number, name: string, color: [number, number, number],
 *   pixels: number, fraction: number, mean_confidence: number | null}} FoundClass
 * @typedef {{model: string, width: number, height: number, classes: FoundClass[],
 *   mask: {media_type: string, data: string}, timing_ms: Record<string, number>}} Answer
 * @typedef {{classes: FoundClass[], labels: Uint16Array, hasPhoto: boolean}} Drawing
 */

/** The overlay is redrawn on every hover: beyond this side it would lag, and no screen shows more. */
const LONGEST_SIDE = 1600;
const DIMMED = [0, 0, 0, 170];
const CLEAR = [0, 0, 0, 0];

const KEY = "api-key"; // in sessionStorage: of this tab alone, and gone with it

const $ = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A failure whose message is already fit for the reader. */
class PlainError extends Error {
  constructor(message, mayPass) {
    super(message);
    this.mayPass = mayPass; // whether the same file could do better a moment later
  }
}

const page = {
  /** @type {File | null} */ file: null,
  /** @type {AbortController | null} */ request: null,
  /** @type {Drawing | null} */ drawing: null,
  /** @type {number | null} */ hovered: null,
  /** @type {number | null} */ focused: null,
};

// ---- one image, from the file to the result ----

/** @param {File} file */
async function start(file) {
  page.request?.abort();
  page.request = new AbortController();
  page.file = file;
  const { signal } = page.request;
  showWorking(file);
  try {
    await checkReadable(file);
    const [hasPhoto, answer] = await Promise.all([preview(file, signal), segment(file, signal)]);
    const mask = maskBlob(answer);
    const bitmap = await createImageBitmap(mask, { colorSpaceConversion: "none" });
    if (!signal.aborted) showAnswer(answer, mask, bitmap, hasPhoto);
  } catch (error) {
    if (!signal.aborted) showError(error);
  }
}

/** A folder, or a file that has since been moved, would look like a dead server when sent. */
async function checkReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new PlainError(`“${file.name}” cannot be read. Is it a folder, or has it been moved?`, false);
  }
}

/** Shows the photograph while the server works; false where the browser cannot draw this kind of file. */
async function preview(file, signal) {
  const photo = $("photo");
  replaceUrl(photo, "src", file);
  try {
    await photo.decode();
  } catch {
    return false;
  }
  if (signal.aborted) return false;
  photo.alt = `Photograph: ${file.name}`;
  setRatio(photo.naturalWidth, photo.naturalHeight);
  photo.hidden = $("picture").hidden = false;
  return true;
}

/** @returns {Promise<Answer>} */
async function segment(file, signal) {
  const body = new FormData();
  body.append("file", file);
  let response;
  try {
    response = await ask("/segment", { method: "POST", body, signal });
  } catch {
    throw new PlainError(
      "The server did not answer. It may be stopped or out of reach, or it may have turned away a very large file.", true);
  }
  if (!response.ok) throw await problemOf(response);
  return response.json();
}

/** fetch, with the API key where there is one. */
async function ask(url, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(url, { ...options, headers });
  if (response.status === 401) askForKey(key !== null);
  return response;
}

/** @param {boolean} isWrong whether one was sent, and refused */
function askForKey(isWrong) {
  sessionStorage.removeItem(KEY);
  $("key-label").textContent = isWrong ? "The service does not know this API key. Another:"
    : "This service asks for an API key:";
  $("key-form").hidden = false;
  showGuarded();
}

/** What is no use without a key, or in a tab that cannot send it. */
function showGuarded() {
  $("open-link").hidden = true;
  $("curl").textContent = `curl -H "Authorization: Bearer $KEY" -F file=@photo.jpg ${location.origin}/segment`;
}

/** The server's own sentence; something in between, such as a proxy, may answer without one. */
async function problemOf(response) {
  const problem = await response.json().catch(() => null);
  const detail = typeof problem?.detail === "string" ? problem.detail : problem?.title;
  const wait = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  const advice = [429, 503].includes(response.status) && wait > 0 ? ` Try again in ${wait} s.` : "";
  const message = detail || `The server refused the image (status ${response.status}).`;
  return new PlainError(message + advice, response.status >= 500 || [401, 429].includes(response.status));
}

/** @param {Answer} answer */
function maskBlob(answer) {
  const bytes = Uint8Array.from(atob(answer.mask.data), (char) => char.charCodeAt(0));
  return new Blob([bytes], { type: answer.mask.media_type });
}

// ---- the picture ----

/** Which class each drawn pixel has, as an index into classes; classes.length where the colour is unknown. */
function readLabels(bitmap, classes) {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const width = Math.max(1, Math.round(bitmap.width * scale));
  const height = Math.max(1, Math.round(bitmap.height * scale));
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false; // blended colours would belong to no class
  context.drawImage(bitmap, 0, 0, width, height);
  const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  const colours = packed(classes.map((found) => [...found.color, 255]));
  const indexOf = new Map([...colours].map((colour, index) => [colour, index]));
  return { width, height, labels: Uint16Array.from(pixels, (colour) => indexOf.get(colour) ?? classes.length) };
}

/** RGBA quadruples as 32-bit words in this machine's byte order, which is that of ImageData too. */
function packed(quadruples) {
  return new Uint32Array(Uint8ClampedArray.from(quadruples.flat()).buffer);
}

/** Without a photograph there is nothing to let through: the mask is opaque and background has its colour. */
function coloursToPaint({ classes, hasPhoto }, lit) {
  const opacity = hasPhoto ? Math.round($("opacity").value * 2.55) : 255;
  const colours = classes.map(({ id, name, color }) => {
    if (lit !== null && id !== lit) return hasPhoto ? DIMMED : color.map((c) => c * 0.2).concat(255);
    return hasPhoto && name === "background" ? CLEAR : [...color, opacity];
  });
  return packed([...colours, CLEAR]);
}

function paint() {
  const { drawing } = page;
  if (!drawing) return;
  const canvas = $("overlay");
  const lit = page.hovered ?? page.focused;
  const colours = coloursToPaint(drawing, lit);
  const image = new ImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  drawing.labels.forEach((label, at) => { pixels[at] = colours[label]; });
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.dataset.lit = lit ?? "";
  for (const row of $("rows").children) row.classList.toggle("lit", row.dataset.id === String(lit));
}

function setRatio(width, height) {
  $("stage").style.setProperty("--ratio", String(width / height));
}

// ---- what the page says ----

function showState(state, message) {
  document.body.dataset.state = state;
  $("main").setAttribute("aria-busy", String(state === "working"));
  $("progress").hidden = state !== "working";
  $("error").hidden = state !== "error";
  $("result").hidden = $("overlay").hidden = state !== "done";
  $("status").textContent = message;
}

function showWorking(file) {
  Object.assign(page, { drawing: null, hovered: null, focused: null });
  $("picture").hidden = $("photo").hidden = true;
  showState("working", `Segmenting ${file.name}…`);
}

function showError(error) {
  const plain = error instanceof PlainError ? error
    : new PlainError("The server's answer could not be read. It may have been cut short.", true);
  if (plain !== error) console.error(error);
  showState("error", "No mask.");
  $("error-text").textContent = plain.message;
  $("retry").hidden = !plain.mayPass;
}

/** @param {Answer} answer */
function showAnswer(answer, mask, bitmap, decoded) {
  const photo = $("photo");
  // A photograph that the browser turns or sizes otherwise than the server would lie under the mask.
  const hasPhoto = decoded && photo.naturalWidth === answer.width && photo.naturalHeight === answer.height;
  const { width, height, labels } = readLabels(bitmap, answer.classes);
  page.drawing = { classes: answer.classes, labels, hasPhoto };
  Object.assign($("overlay"), { width, height });
  setRatio(answer.width, answer.height);
  photo.hidden = !hasPhoto;
  $("picture").hidden = false;
  $("rows").replaceChildren(...answer.classes.map(classRow));
  describe(answer, noteFor(decoded, hasPhoto, labels.includes(answer.classes.length)));
  offerMask(mask);
  paint();
}

function noteFor(decoded, hasPhoto, hasUnknown) {
  if (!decoded) return "This browser cannot display this kind of file, so you see the mask alone.";
  if (!hasPhoto) return "This browser displays the photograph at another size than the server read, so you see the mask alone.";
  if (hasUnknown) return "This browser alters colours that pages read, so the overlay has gaps; the downloaded mask has none.";
  return "";
}

/** @param {Answer} answer */
function describe(answer, note) {
  const { total, ...steps } = answer.timing_ms;
  const count = answer.classes.length;
  showState("done", `${count} ${count === 1 ? "class" : "classes"} found by model “${answer.model}” in ${whole.format(total)} ms.`);
  const parts = Object.entries(steps).map(([step, ms]) => `${step} ${ms.toFixed(1)} ms`);
  $("answer").textContent =
    `${page.file.name}, ${answer.width} × ${answer.height} pixels. Time on the server: ${parts.join(", ")}.`;
  const shares = answer.classes.map((found) => `${found.name} ${share(found.fraction)}`);
  $("overlay").setAttribute("aria-label", `Mask: ${shares.join(", ")}`);
  $("note").textContent = note;
  $("note").hidden = note === "";
  $("blend").hidden = !page.drawing.hasPhoto;
}

/** A class that is there must not read as 0.0%. */
function share(fraction) {
  return fraction > 0 && fraction < 0.001 ? "<0.1%" : percent.format(fraction);
}

/** @param {FoundClass} found */
function classRow(found) {
  const row = document.createElement("tr");
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.backgroundColor = `rgb(${found.color.join(",")})`;
  const name = document.createElement("th");
  name.scope = "row";
  name.append(swatch, found.name);
  const sure = found.mean_confidence === null ? "–" : percent.format(found.mean_confidence);
  const cells = [share(found.fraction), whole.format(found.pixels), sure].map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  });
  row.append(name, ...cells);
  row.tabIndex = 0;
  row.dataset.id = String(found.id);
  light(row, "hovered", "pointerenter", "pointerleave", found.id);
  light(row, "focused", "focus", "blur", found.id);
  row.addEventListener("click", () => row.focus()); // a tap does not focus a row everywhere
  return row;
}

function light(row, key, on, off, id) {
  row.addEventListener(on, () => { page[key] = id; paint(); });
  row.addEventListener(off, () => { page[key] = null; paint(); });
}

function offerMask(mask) {
  const link = $("download");
  replaceUrl(link, "href", mask);
  link.download = `${page.file.name.replace(/\.[^.]*$/, "")}-mask.png`;
}

/** Object URLs keep their bytes alive until revoked. */
function replaceUrl(element, attribute, blob) {
  const old = element.getAttribute(attribute);
  element.setAttribute(attribute, URL.createObjectURL(blob));
  if (old) URL.revokeObjectURL(old);
}

async function showModel() {
  const list = await ask("/models").then((response) => (response.ok ? response.json() : null)).catch(() => null);
  const model = list?.models?.find(({ name }) => name === list.active);
  $("model").textContent = list === null ? "The server does not say which models it has."
    : model ? modelLine(model) : "No model is loaded.";
}

function modelLine({ name, architecture, num_classes: count, metrics }) {
  const score = metrics ? `, mean IoU ${percent.format(metrics.mean_iou)} on ${metrics.dataset} ${metrics.split}` : "";
  return `Model “${name}”: ${architecture}, ${count} classes${score}`;
}

// ---- ways in ----

/** @param {DataTransfer} data */
function take(data) {
  if (data.files.length > 0) start(data.files[0]);
  else $("status").textContent = "There was no image file in that.";
}

$("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // else choosing the same file again would be no change
  if (file) start(file);
});
$("retry").addEventListener("click", () => start(page.file));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.replace(/[^!-~]/g, "")); // what a header can hold
  $("key").value = "";
  $("key-form").hidden = true;
  showModel();
});
$("opacity").addEventListener("input", ({ target }) => {
  $("opacity-value").textContent = `${target.value}%`;
  paint();
});
window.addEventListener("paste", (event) => take(event.clipboardData));
window.addEventListener("dragover", (event) => {
  event.preventDefault(); // else the browser would open the dropped file in place of this page
  document.body.classList.add("dragging");
});
window.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragging");
});
window.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer);
});

$("curl").textContent = `curl -F file=@photo.jpg ${location.origin}/segment`;
if (sessionStorage.getItem(KEY)) showGuarded();
showModel();
