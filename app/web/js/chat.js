// The conversation: ask, watch the answer come in, go back to earlier ones.

import { call, events, send } from "./api.js";
import { rendered, sourceList } from "./answer.js";
import { $, el, removeButton } from "./dom.js";

const messages = $("messages");
const question = $("question");
let conversation = null;
let running = null;
let documents = null;
let answered = () => {};

/** Wire the chat up; `onAnswer` is called after each answer. */
export function start(onAnswer) {
  answered = onAnswer;
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  question.addEventListener("input", fit);
  $("stop").addEventListener("click", () => running?.abort());
  $("new-chat").addEventListener("click", () => open(null));
}

/** How many documents there are: an empty page says what to do first. */
export function setDocumentCount(count) {
  documents = count;
  if (messages.querySelector(".welcome")) welcome();
}

/** Show a conversation; null is a new one. */
export async function open(id) {
  running?.abort();
  conversation = id;
  messages.replaceChildren();
  mark();
  if (id === null) {
    welcome();
    question.focus();
    return;
  }
  await page(null);
  messages.scrollTop = messages.scrollHeight;
}

/** Load the list of conversations anew. */
export async function listConversations() {
  const { conversations } = await call("/chat/conversations");
  const items = conversations.map(({ id, title }) => {
    const button = el("button", { className: "open", type: "button", textContent: title, title });
    button.dataset.id = id;
    button.addEventListener("click", () => guarded(() => open(id)));
    const remove = removeButton(`Delete the chat ${title}`, () => guarded(async () => {
      await call(`/chat/conversations/${id}`, { method: "DELETE" });
      if (conversation === id) await open(null);
      await listConversations();
    }));
    return el("li", {}, button, remove);
  });
  if (!items.length) items.push(el("li", { className: "empty", textContent: "No chats yet." }));
  $("conversations").replaceChildren(...items);
  mark();
}

function mark() {
  for (const button of $("conversations").querySelectorAll("button.open")) {
    button.setAttribute("aria-current", String(button.dataset.id === conversation));
  }
}

function welcome() {
  const words = documents !== 0
    ? "Answers come with the places they were taken from."
    : "First add the documents that Metis shall answer from.";
  const box = el(
    "div",
    { className: "welcome" },
    el("p", {}, el("strong", { textContent: "What would you like to know?" }), words),
  );
  if (documents === 0) {
    const add = el("button", { className: "primary", type: "button", textContent: "Add documents" });
    add.addEventListener("click", () => $("files").click());
    box.append(add);
  }
  messages.replaceChildren(box);
}

async function page(cursor) {
  const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
  const found = await call(`/chat/conversations/${conversation}/messages${query}`);
  const shown = found.messages.map((message) => {
    if (message.role === "user") return userMessage(message.content);
    const view = answerView();
    view.sources(message.sources);
    view.finish(message.content);
    return view.element;
  });
  messages.prepend(...shown);
  if (found.next_cursor) {
    const older = el("button", { className: "older", type: "button", textContent: "Show earlier messages" });
    older.addEventListener("click", () => guarded(async () => {
      const before = messages.scrollHeight;
      await page(found.next_cursor);
      older.remove();
      messages.scrollTop += messages.scrollHeight - before;
    }));
    messages.prepend(older);
  }
}

async function ask() {
  const text = question.value.trim();
  if (!text || running) return;
  question.value = "";
  fit();
  messages.querySelector(".welcome")?.remove();
  const view = answerView();
  messages.append(userMessage(text), view.element);
  follow(true);
  running = new AbortController();
  busy(true);
  const mine = running;
  try {
    await stream(text, view, mine);
  } catch (error) {
    if (error.name === "AbortError") view.trouble("Stopped.");
    else view.trouble(error.message);
    if (!view.begun && error.name !== "AbortError" && !question.value) question.value = text;
  } finally {
    if (running === mine) {
      running = null;
      busy(false);
      if (document.activeElement === document.body) question.focus();
    }
    answered();
  }
}

async function stream(text, view, mine) {
  const json = { message: text };
  if (conversation) json.conversation_id = conversation;
  const response = await send("/chat/stream", { method: "POST", json, signal: mine.signal });
  let answer = "";
  for await (const [name, data] of events(response)) {
    if (running !== mine) return;
    if (name === "start") {
      conversation = data.conversation_id;
      view.begun = true;
    } else if (name === "sources") {
      view.sources(data.sources);
    } else if (name === "token") {
      answer += data.text;
      view.write(answer);
    } else if (name === "done") {
      view.finish(data.answer, data.citations);
      return;
    } else if (name === "error") {
      throw new Error(data.message);
    }
    follow();
  }
  throw new Error("The connection broke off before the answer was complete. Ask again.");
}

function userMessage(text) {
  return el("article", { className: "from-user" }, el("p", { textContent: text }));
}

/** The view of one answer, as it comes in. */
function answerView() {
  const waiting = el("p", { className: "waiting", textContent: "Looking through the documents" });
  const body = el("div", { className: "answer" });
  const element = el("article", { className: "from-metis" }, waiting, body);
  let list = null;
  let latest = "";
  let frame = null;
  const draw = () => {
    if (frame) cancelAnimationFrame(frame);
    frame = null;
    waiting.remove();
    body.replaceChildren(...rendered(latest, cite));
    follow();
  };
  const cite = (number) => {
    if (!list?.has(number)) return document.createTextNode(`[${number}]`);
    const button = el("button", { className: "cite", type: "button", textContent: String(number) });
    button.setAttribute("aria-label", `Show source ${number}`);
    button.addEventListener("click", () => list.open(number));
    return button;
  };
  return {
    element,
    begun: false,
    sources(found) {
      waiting.textContent = "Writing the answer";
      if (!found.length) return;
      list = sourceList(found);
      element.append(list.element);
    },
    write(text) {
      // Once a frame is enough for the eye, and keeps long answers from slowing down.
      latest = text;
      frame ??= requestAnimationFrame(draw);
    },
    finish(text, citations) {
      latest = text;
      draw();
      const cited = citations ?? [...text.matchAll(/\[(\d+(?:\s*,\s*\d+)*)\]/g)].flatMap((m) => m[1].split(",").map(Number));
      list?.mark(cited);
    },
    trouble(message) {
      if (latest) draw();
      waiting.remove();
      const note = el("p", { className: "trouble", textContent: message });
      note.setAttribute("role", "alert");
      element.append(note);
    },
  };
}

function busy(state) {
  $("send").hidden = state;
  $("stop").hidden = !state;
  messages.setAttribute("aria-busy", String(state));
}

/** Keep the newest text in view, unless the reader scrolled up. */
function follow(always = false) {
  const near = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 160;
  if (always || near) messages.scrollTop = messages.scrollHeight;
}

function fit() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight + 2}px`;
}

async function guarded(action) {
  try {
    await action();
  } catch (error) {
    const note = el("p", { className: "trouble", textContent: error.message });
    note.setAttribute("role", "alert");
    messages.append(note);
  }
}
