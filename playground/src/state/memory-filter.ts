/** What restricts a search or an erasure, as it is typed and as it is sent. */

import type { Kind, Params, Selected } from "../api/memory";

export interface Filter {
  conversation: string;
  subject: string;
  author: string;
  kind: "" | Kind;
  scope: string;
  /** As `datetime-local` has it: without a zone, of this machine's. */
  since: string;
  until: string;
}

export const emptyFilter: Filter = {
  conversation: "",
  subject: "",
  author: "",
  kind: "",
  scope: "",
  since: "",
  until: "",
};

/** A local time as the server wants it, or nothing for what is no time. */
export function momentOf(local: string): string | undefined {
  const time = local.trim() ? new Date(local) : null;
  return time && !Number.isNaN(time.getTime()) ? time.toISOString() : undefined;
}

/** A moment as `datetime-local` wants it, to the minute. */
export function localOf(moment: string | number): string {
  const time = new Date(moment);
  if (Number.isNaN(time.getTime())) return "";
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export function selectedOf(filter: Filter): Selected {
  const selected: Selected = {};
  for (const name of ["conversation", "subject", "author", "scope"] as const) {
    const typed = filter[name].trim();
    if (typed) selected[name] = typed;
  }
  if (filter.kind) selected.kinds = [filter.kind];
  for (const name of ["since", "until"] as const) {
    const moment = momentOf(filter[name]);
    if (moment) selected[name] = moment;
  }
  return selected;
}

/** The same as parameters of a query, where there is one kind at most. */
export function paramsOf(filter: Filter): Params {
  const { kinds, ids: _ids, ...rest } = selectedOf(filter);
  return { ...rest, ...(kinds ? { kind: kinds[0] } : {}) };
}

export function restricts(filter: Filter): number {
  return Object.keys(selectedOf(filter)).length;
}

/** What the server will refuse, in words, or null. */
export function filterMistake(filter: Filter): string | null {
  const scope = filter.scope.trim();
  if (scope && !/^(private|shared|team:.+)$/.test(scope)) return "A scope is private, shared or team:NAME";
  const { since, until } = selectedOf(filter);
  if (since && until && since >= until) return "“Until” is not after “since”: nothing lies between";
  return null;
}
