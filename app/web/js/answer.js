// An answer on the page: the Markdown that models write, its citations, its sources.

import { counted, el } from "./dom.js";

const INLINE = /(`[^`\n]+`|\*\*[^*\n]+\*\*|\[\d{1,3}(?:\s*,\s*\d{1,3})*\])/;

/** Elements for a text in the Markdown that models use: paragraphs, lists, code, bold. */
export function rendered(text, cite) {
  const blocks = [];
  const parts = text.split(/^```.*$/m);
  parts.forEach((part, index) => {
    if (index % 2 === 1) {
      blocks.push(el("pre", {}, el("code", { textContent: part.replace(/^\n|\n$/g, "") })));
    } else {
      blocks.push(...prose(part, cite));
    }
  });
  return blocks;
}

function prose(text, cite) {
  const blocks = [];
  let list = null;
  let lines = [];
  const close = () => {
    if (lines.length) blocks.push(paragraph(lines, cite));
    lines = [];
  };
  for (const line of text.split("\n")) {
    const item = line.match(/^\s*(?:([-*+])|\d{1,3}[.)])\s+(.*)$/);
    const heading = line.match(/^#{1,6}\s+(.*)$/);
    if (item) {
      close();
      const kind = item[1] ? "ul" : "ol";
      if (list?.localName !== kind) blocks.push((list = el(kind)));
      list.append(el("li", {}, ...inline(item[2], cite)));
    } else if (heading) {
      close();
      list = null;
      blocks.push(el("p", {}, el("strong", {}, ...inline(heading[1], cite))));
    } else if (!line.trim()) {
      close();
    } else {
      list = null;
      lines.push(line);
    }
  }
  close();
  return blocks;
}

function paragraph(lines, cite) {
  const children = [];
  lines.forEach((line, index) => {
    if (index) children.push(el("br"));
    children.push(...inline(line, cite));
  });
  return el("p", {}, ...children);
}

function inline(text, cite) {
  return text.split(INLINE).flatMap((piece) => {
    if (piece.startsWith("`") && piece.length > 2) return [el("code", { textContent: piece.slice(1, -1) })];
    if (piece.startsWith("**") && piece.length > 4) return [el("strong", {}, ...inline(piece.slice(2, -2), cite))];
    if (/^\[\d/.test(piece)) return piece.match(/\d+/g).map((number) => cite(Number(number)));
    return piece ? [document.createTextNode(piece)] : [];
  });
}

/** Where a source stands, in words. */
export function place(source) {
  const parts = [];
  if (source.page !== null) parts.push(`page ${source.page}`);
  if (source.section) parts.push(source.section);
  return parts.join(", ");
}

/**
 * The sources under an answer. They wait folded until the answer is there; `mark(numbers)` then
 * puts the cited ones up front. `open(number)` unfolds one and shows it.
 */
export function sourceList(sources) {
  const all = new Map(sources.map((source) => [source.number, sourceView(source)]));
  const summary = el("summary", { textContent: `${counted(sources.length, "passage")} found` });
  const more = el("details", { className: "more" }, summary, ...all.values());
  const heading = el("h2", { textContent: "Sources" });
  const list = el("section", { className: "sources" }, heading, more);
  list.setAttribute("aria-label", "Sources of this answer");
  return {
    element: list,
    mark(numbers) {
      const cited = numbers.filter((number) => all.has(number)).map((number) => all.get(number));
      for (const view of cited) view.classList.add("cited");
      heading.after(...cited);
      const left = all.size - new Set(cited).size;
      summary.textContent = cited.length
        ? `${left} more ${left === 1 ? "passage" : "passages"} looked at`
        : `${counted(left, "passage")} looked at, none cited`;
      if (!left) more.remove();
    },
    has: (number) => all.has(number),
    open(number) {
      const view = all.get(number);
      if (more.contains(view)) more.open = true;
      view.open = true;
      view.scrollIntoView({ block: "nearest", behavior: "smooth" });
      view.querySelector("summary").focus({ preventScroll: true });
    },
  };
}

function sourceView(source) {
  return el(
    "details",
    { className: "source" },
    el(
      "summary",
      {},
      el("span", { className: "number", textContent: `[${source.number}]` }),
      el("span", {}, source.document_name, " ", el("span", { className: "place", textContent: place(source) })),
    ),
    el("blockquote", { textContent: source.text }),
    el("p", { className: "why", textContent: why(source) }),
  );
}

function why(source) {
  const match = `Similarity ${(source.score - (source.boost ?? 0)).toFixed(2)}`;
  return source.boost ? `${match}, and ${source.boost.toFixed(3)} more because you used this document lately` : match;
}
