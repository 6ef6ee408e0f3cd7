// The documents: upload by button or by dropping, list, delete.

import { call } from "./api.js";
import { $, bytes, counted, el, removeButton } from "./dom.js";

const AT_ONCE = 2;
/** Documents that came in since the page was opened: the list says so. */
const fresh = new Set();
let changed = () => {};

/** Wire uploads up; `onChange(count)` is called when the list was loaded. */
export function start(onChange, reveal) {
  changed = onChange;
  const input = $("files");
  $("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    reveal();
    upload([...input.files]);
    input.value = "";
  });
  let depth = 0;
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (shown) => ($("overlay").hidden = !shown);
  window.addEventListener("dragenter", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth += 1;
    show(true);
  });
  window.addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  window.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    show(depth > 0);
  });
  window.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    reveal();
    upload([...event.dataTransfer.files]);
  });
}

/** Load the list anew. */
export async function list() {
  const { documents } = await call("/documents");
  $("document-list").replaceChildren(...documents.map(row));
  $("document-count").textContent = documents.length || "";
  changed(documents.length);
}

function row(document) {
  const parts = [bytes(document.size)];
  if (document.status === "ready") parts.push(counted(document.chunks, "passage"));
  if (document.status === "processing") parts.push("being read");
  const good = fresh.has(document.id) && document.status === "ready";
  if (good) parts.push("just added");
  const about = el("p", { className: good ? "about good" : "about", textContent: parts.join(", ") });
  const item = el("div", { className: "item" }, el("p", { className: "name", textContent: document.name }), about);
  if (document.status === "failed") item.append(el("p", { className: "about bad", textContent: document.error }));
  const remove = removeButton(`Delete ${document.name}`, async () => {
    try {
      await call(`/documents/${document.id}`, { method: "DELETE" });
      await list();
    } catch (error) {
      item.append(el("p", { className: "about bad", textContent: error.message }));
    }
  });
  return el("li", {}, item, remove);
}

/** Upload files, a few at a time. Each has a line until it stands in the list with its result. */
async function upload(files) {
  const waiting = files.map((file) => {
    const about = el("p", { className: "about", textContent: "waiting" });
    const line = el("li", {}, el("div", { className: "item" }, el("p", { className: "name", textContent: file.name }), about));
    $("uploads").append(line);
    return { file, about, line };
  });
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) await one(next);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function one({ file, about, line }) {
  about.textContent = "being read";
  const form = new FormData();
  form.append("files", file);
  try {
    const { documents: [document] } = await call("/documents", { method: "POST", form });
    fresh.add(document.id);
    await list();
    line.remove();
  } catch (error) {
    about.className = "about bad";
    about.textContent = error.message;
    line.append(dismissButton(file.name, line));
  }
}

function dismissButton(name, line) {
  const button = el("button", { className: "quiet", type: "button", textContent: "OK" });
  button.setAttribute("aria-label", `Dismiss the message about ${name}`);
  button.addEventListener("click", () => line.remove());
  return button;
}
