/** Which page is shown, kept in the address so that a reload and the back button work. */

import { Store } from "./store";

export const TABS = ["search", "timeline", "add", "erase", "audit"] as const;
export type Tab = (typeof TABS)[number];

export type Route = { page: "chat" } | { page: "memory"; tab: Tab; event: string | null };

/** `#/memory/timeline/EVENT`; anything unknown is the chat, an unknown tab the search. */
export function routeOf(hash: string): Route {
  const [page, tab, event] = hash.replace(/^#\/?/, "").split("/");
  if (page !== "memory") return { page: "chat" };
  const known = TABS.find((one) => one === tab) ?? "search";
  return { page: "memory", tab: known, event: event && /^[0-9A-Z]{26}$/.test(event) ? event : null };
}

export function hashOf(route: Route): string {
  if (route.page === "chat") return "#/";
  return `#/memory/${route.tab}${route.event ? `/${route.event}` : ""}`;
}

export const route = new Store<Route>({ page: "chat" });

export function go(to: Route): void {
  const hash = hashOf(to);
  if (location.hash !== hash && !(to.page === "chat" && location.hash === "")) location.hash = hash;
  route.set(to);
}

export function startRouting(): void {
  const read = () => route.set(routeOf(location.hash));
  addEventListener("hashchange", read);
  read();
}
