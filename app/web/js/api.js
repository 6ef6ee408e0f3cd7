// The app's HTTP API. Everything that leaves the page goes through here.

const STORED = "metis-key";

/** An error that the server told, or that kept it from being reached. */
export class ApiError extends Error {
  constructor(message, code, status) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export const key = {
  get: () => localStorage.getItem(STORED),
  set: (value) => localStorage.setItem(STORED, value),
  clear: () => localStorage.removeItem(STORED),
};

/** Called when the server knows no (longer a) key of ours. */
let signedOut = () => {};
export function onSignedOut(callback) {
  signedOut = callback;
}

/** Send a request; gives the response, throws ApiError for any that is not a success. */
export async function send(path, { method = "GET", json, form, signal } = {}) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(`api${path}`, {
      method,
      headers,
      body: json !== undefined ? JSON.stringify(json) : form,
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("Metis cannot be reached. Check the connection, then try again.", "offline", 0);
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const message = error?.message ?? `the server answered ${response.status}`;
  const failure = new ApiError(message, error?.code ?? "unknown", response.status);
  if (response.status === 401 && path !== "/me") signedOut();
  throw failure;
}

/** Send a request and read its JSON. */
export async function call(path, options) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

/** The server-sent events of a response, as [name, data]. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      buffer += value;
      const blocks = buffer.split("\n\n");
      buffer = blocks.pop();
      for (const block of blocks) {
        const fields = {};
        for (const line of block.split("\n")) {
          const colon = line.indexOf(": ");
          if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
        }
        if (fields.event) yield [fields.event, JSON.parse(fields.data)];
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
