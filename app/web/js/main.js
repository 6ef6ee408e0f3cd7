// Puts the page together: sign-in, tabs, the state of the system.

import { ApiError, call, key, onSignedOut } from "./api.js";
import * as chat from "./chat.js";
import * as documents from "./documents.js";
import { $ } from "./dom.js";
import * as memory from "./memory.js";

const HEALTH_EVERY = 15_000;
const TABS = ["chats", "documents", "memory"];

/** What it means for the user when a component fails. */
const TROUBLE = {
  database: "The database does not answer: nothing can be asked or uploaded until it is back.",
  "model-server": "The model server does not answer: questions and uploads wait until it is back.",
  models: "A model is not there yet",
  mem0: "Long-term memory is away: chats go on, and what you say is kept until it is back.",
};

async function begin() {
  chat.start(() => {
    quietly(chat.listConversations);
    if (!$("memory").hidden) quietly(memory.show);
  });
  documents.start(chat.setDocumentCount, () => select("documents"));
  memory.start();
  tabs();
  signIn();
  setInterval(() => document.hidden || health(), HEALTH_EVERY);
  document.addEventListener("visibilitychange", () => document.hidden || health());
  health();
  await enter();
}

/** Find out who we are and load everything, or ask for a key. */
async function enter() {
  try {
    const me = await call("/me");
    $("who").textContent = me.user_id === "local" ? "" : me.user_id;
    $("sign-out").hidden = !key.get();
    memory.setRole(me.role);
    $("sign-in").close();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      askForKey(key.get() ? error.message : "");
    } else {
      banner(error.message, "down");
      setTimeout(enter, 3000);
    }
    return;
  }
  chat.open(null);
  await Promise.all([chat.listConversations, documents.list].map(quietly));
}

function signIn() {
  onSignedOut(() => askForKey("Your key is no longer known here."));
  $("sign-in").addEventListener("cancel", (event) => event.preventDefault());
  $("sign-in").querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    key.set($("key").value.trim());
    enter();
  });
  $("sign-out").addEventListener("click", () => {
    key.clear();
    location.reload();
  });
}

function askForKey(problem) {
  key.clear();
  $("sign-in-error").textContent = problem;
  if (!$("sign-in").open) $("sign-in").showModal();
  $("key").value = "";
  $("key").focus();
}

function tabs() {
  for (const name of TABS) {
    const tab = $(`tab-${name}`);
    tab.addEventListener("click", () => select(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
      select(next);
      $(`tab-${next}`).focus();
    });
  }
  $("menu").addEventListener("click", () => side(!$("side").classList.contains("shown")));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") side(false);
  });
  $("messages").addEventListener("pointerdown", () => side(false));
  $("conversations").addEventListener("click", (event) => event.target.closest(".open") && side(false));
  $("new-chat").addEventListener("click", () => side(false));
}

/** Show a tab's panel. */
function select(name) {
  for (const other of TABS) {
    const tab = $(`tab-${other}`);
    tab.setAttribute("aria-selected", String(other === name));
    tab.tabIndex = other === name ? 0 : -1;
    $(other).hidden = other !== name;
  }
  side(true);
  if (name === "memory") quietly(memory.show);
  if (name === "documents") quietly(documents.list);
}

/** Show or hide the side panel where the page is narrow. */
function side(shown) {
  $("side").classList.toggle("shown", shown);
  $("menu").setAttribute("aria-expanded", String(shown));
}

async function health() {
  try {
    const response = await fetch("api/health");
    const { status, components } = await response.json();
    const failing = Object.keys(components).filter((name) => components[name].status === "error");
    // Without its server the models cannot be listed either: one reason is enough.
    const first = ["database", "model-server", "models", "mem0"].find((name) => failing.includes(name));
    const down = first && first !== "mem0";
    $("health").dataset.status = down ? "down" : status;
    $("health").textContent = { true: "not available" }[Boolean(down)] ?? (status === "ok" ? "ready" : "without memory");
    const words = first === "models" ? `${TROUBLE.models}: ${components.models.detail}.` : TROUBLE[first];
    banner(words, down ? "down" : "degraded");
  } catch {
    $("health").dataset.status = "down";
    $("health").textContent = "not reachable";
    banner("Metis cannot be reached. This page tries again by itself.", "down");
  }
}

function banner(text, status) {
  $("banner").hidden = !text;
  $("banner").dataset.status = status;
  if ($("banner").textContent !== (text ?? "")) $("banner").textContent = text ?? "";
}

/** Do what the user did not ask for; its failure shows in the banner soon enough. */
async function quietly(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

begin();
