// Addresses within the page.

/** Returns the address of a tab of a conversation. */
export function tabAddress(id, tab, fields = {}) {
  const query = new URLSearchParams(Object.entries(fields).filter(([, value]) => value)).toString();
  return `#/c/${encodeURIComponent(id)}/${tab}${query ? `?${query}` : ""}`;
}
