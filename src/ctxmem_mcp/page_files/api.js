// Asks the server. Its address holds no secret: the key of `ctxmem-mcp open` is in the fragment, which browsers don't send.

const STORED = "ctxmem-token";
let changeToken = "";

/** An error that the server explained. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const token = sessionStorage.getItem(STORED);
  const headers = { ...(token ? { authorization: `Bearer ${token}` } : {}), ...options.headers };
  const response = await fetch(`api/${path}`, { ...options, headers, cache: "no-store" });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, body.error?.message ?? `Error ${response.status}`);
  return body;
}

/** Exchanges the key in the address, if there is one, and asks for the token that changes need. */
export async function start() {
  const [, key, id] = /^#key=([\w-]+)(?:&c=(.*))?$/.exec(location.hash) ?? [];
  if (key) {
    history.replaceState(null, "", `${location.pathname}#/${id ? `c/${id}/tree` : ""}`);
    const body = JSON.stringify({ key });
    const { token } = await request("session", { method: "POST", body });
    sessionStorage.setItem(STORED, token);
  }
  changeToken = (await request("start")).page_token;
}

export function useToken(token) {
  sessionStorage.setItem(STORED, token);
}

/** Returns what a path of the API answers; fields that are empty are left out. */
export function read(path, fields = {}) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "" && value != null));
  return request(query.size ? `${path}?${query}` : path);
}

export function change(path, body) {
  return request(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-page-token": changeToken },
    body: JSON.stringify(body),
  });
}

export const conversationPath = (id, rest = "") => `conversations/${encodeURIComponent(id)}${rest}`;
