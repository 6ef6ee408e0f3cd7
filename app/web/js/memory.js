// What Metis remembers of the user, and the preferences they set.

import { call } from "./api.js";
import { $, confirmed, counted, el } from "./dom.js";

const form = $("preferences");
const LOOK_AGAIN = 3000;
let kept = {};
/** Whether the user changed something since the last save: what comes in late must not undo it. */
let changed = false;

let admin = false;
let looking = null;

/** Whether the user is an admin: the state of memory is for them. */
export function setRole(role) {
  admin = role === "admin";
  $("memory-state").hidden = !admin;
}

/** Wire the form up. */
export function start() {
  confirmed($("forget"), "Press again to forget", () => told(async () => {
    await call("/memory", { method: "DELETE" });
    changed = false;
    await show();
  }));
  form.addEventListener("input", () => (changed = true));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await save();
  });
}

/** Load what is remembered anew. */
export async function show() {
  const [memory, stats] = await Promise.all([call("/memory"), call("/memory/stats"), listModels()]);
  note(memory.status, stats.waiting);
  state(stats);
  if (memory.status !== "off" && !changed) fill(memory.preferences);
  const said = memory.history.filter(({ role }) => role === "user").map(({ content }) => content);
  lines($("history"), said.reverse(), "Nothing yet.");
  const names = memory.interactions.map((one) => one.data?.document_name ?? one.document_id);
  lines($("interactions"), [...new Set(names)], "None yet.");
}

function note(status, waiting) {
  const many = `${counted(waiting, "note")} of yours ${waiting === 1 ? "waits" : "wait"}`;
  const words = {
    off: "Long-term memory is switched off on this instance.",
    degraded: "Long-term memory does not answer now. Chats go on, and what you say is kept until it is back.",
  };
  const shown = [words[status], waiting ? `${many} to be remembered.` : ""].filter(Boolean).join(" ");
  $("memory-note").hidden = !shown;
  $("memory-note").dataset.status = status;
  if ($("memory-note").textContent !== shown) $("memory-note").textContent = shown;
  for (const field of [...form.elements, $("forget")]) field.disabled = status === "off";
  clearTimeout(looking);
  if (waiting) looking = setTimeout(lookAgain, LOOK_AGAIN);
}

/** Tell how it goes on while something waits, for as long as somebody looks. */
async function lookAgain() {
  if ($("memory").hidden || document.hidden) return;
  try {
    const stats = await call("/memory/stats");
    note(stats.status, stats.waiting);
    state(stats);
  } catch {
    // The banner tells of it; the next look is the user's.
  }
}

function state({ backlog, caches }) {
  if (!admin) return;
  const parked = backlog.parked ? ` ${counted(backlog.parked, "note")} refused: see “metis outbox list --parked”.` : "";
  $("backlog").textContent = backlog.waiting
    ? `${counted(backlog.waiting, "note")} of all users on the way to Mem0, the oldest for ${Math.round(backlog.oldest_seconds)} s.${parked}`
    : `Nothing waits for Mem0.${parked}`;
  const focused = document.activeElement?.dataset.cache;
  $("caches").replaceChildren(...Object.entries(caches).map(([name, figures]) => cacheRow(name, figures)));
  if (focused) $("caches").querySelector(`[data-cache="${focused}"]`)?.focus();
}

function cacheRow(name, { hits, misses, size }) {
  const asked = hits + misses;
  const clear = el("button", { type: "button", className: "quiet", textContent: "Clear" });
  clear.dataset.cache = name;
  clear.setAttribute("aria-label", `Clear the cache ${name} on every replica`);
  clear.addEventListener("click", () => told(async () => {
    await call(`/memory/caches?type=${name}`, { method: "DELETE" });
    state(await call("/memory/stats"));
  }));
  return el(
    "tr",
    {},
    el("th", { scope: "row", textContent: name }),
    el("td", { textContent: asked ? `${Math.round((100 * hits) / asked)} %` : "–" }),
    el("td", { textContent: String(size) }),
    el("td", {}, clear),
  );
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

/** Do something; what goes wrong is said where the user looks. */
async function told(action) {
  try {
    await action();
  } catch (error) {
    $("memory-note").hidden = false;
    $("memory-note").textContent = error.message;
  }
}

function lines(list, texts, none) {
  const items = texts.length ? texts.map((textContent) => el("li", { textContent })) : [el("li", { className: "empty", textContent: none })];
  list.replaceChildren(...items);
}
