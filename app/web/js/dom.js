// Small helpers around the DOM. Text only ever becomes text here, never markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children: el("p", { className: "x" }, "text", child). */
export function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Have a button ask once more, in the words `sure`, before it acts. */
export function confirmed(button, sure, act) {
  const label = button.getAttribute("aria-label") ?? button.textContent;
  const face = button.textContent;
  const calm = () => {
    button.classList.remove("sure");
    button.textContent = face;
    if (face !== label) button.setAttribute("aria-label", label);
  };
  button.addEventListener("click", async () => {
    if (!button.classList.contains("sure")) {
      button.classList.add("sure");
      button.textContent = sure;
      if (face !== label) button.setAttribute("aria-label", `${label}: press again to confirm`);
      return;
    }
    button.disabled = true;
    try {
      await act();
    } finally {
      button.disabled = false;
      calm();
    }
  });
  button.addEventListener("blur", calm);
}

/** A button that removes something, once it was asked twice. */
export function removeButton(label, act) {
  const button = el("button", { className: "remove quiet", type: "button", textContent: "✕" });
  button.setAttribute("aria-label", label);
  confirmed(button, "Delete?", act);
  return button;
}

/** A size in bytes for people. */
export function bytes(count) {
  if (count < 1024) return `${count} B`;
  const units = ["KB", "MB", "GB"];
  let unit = -1;
  do {
    count /= 1024;
    unit += 1;
  } while (count >= 1024 && unit < units.length - 1);
  return `${count < 10 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

/** "1 passage", "2 passages". */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
