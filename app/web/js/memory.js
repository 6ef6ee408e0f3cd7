// What Metis remembers of the user, and the preferences they set.

import { call } from "./api.js";
import { $, el } from "./dom.js";

const form = $("preferences");
let kept = {};
/** Whether the user changed something since the last save: what comes in late must not undo it. */
let changed = false;

/** Wire the form up. */
export function start() {
  form.addEventListener("input", () => (changed = true));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await save();
  });
}

/** Load what is remembered anew. */
export async function show() {
  const [memory] = await Promise.all([call("/memory"), listModels()]);
  note(memory.status);
  if (memory.status === "ok" && !changed) fill(memory.preferences);
  const said = memory.history.filter(({ role }) => role === "user").map(({ content }) => content);
  lines($("history"), said.reverse(), "Nothing yet.");
  const names = memory.interactions.map((one) => one.data?.document_name ?? one.document_id);
  lines($("interactions"), [...new Set(names)], "None yet.");
}

function note(status) {
  const words = {
    off: "Long-term memory is switched off on this instance.",
    degraded: "Long-term memory does not answer now. Chats work; what you say is not remembered until it is back.",
  };
  $("memory-note").hidden = status === "ok";
  $("memory-note").textContent = words[status] ?? "";
  for (const field of form.elements) field.disabled = status === "off";
}

function fill(preferences) {
  kept = preferences;
  for (const name of ["style", "language", "model"]) form.elements[name].value = preferences[name] ?? "";
}

async function listModels() {
  const select = form.elements.model;
  try {
    const { default: standard, models } = await call("/models");
    const chosen = select.value;
    select.replaceChildren(
      el("option", { value: "", textContent: `the default (${standard})` }),
      ...models.map((name) => el("option", { value: name, textContent: name })),
    );
    select.value = chosen;
  } catch {
    // Without Ollama there is nothing to choose from; the banner tells of it.
  }
}

async function save() {
  const result = $("preferences-result");
  const chosen = Object.fromEntries(["style", "language", "model"].map((name) => [name, form.elements[name].value]));
  try {
    const { preferences } = await call("/memory/preferences", { method: "PUT", json: { ...kept, ...chosen } });
    changed = false;
    fill(preferences);
    result.className = "result";
    result.textContent = "Saved. It holds from the next answer on.";
  } catch (error) {
    result.className = "result bad";
    result.textContent = error.message;
  }
}

function lines(list, texts, none) {
  const items = texts.length ? texts.map((textContent) => el("li", { textContent })) : [el("li", { className: "empty", textContent: none })];
  list.replaceChildren(...items);
}
