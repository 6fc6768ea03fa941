/** An audit as findings, the grave ones first. */

import type { Audit } from "../api/memory";

export interface Found {
  name: string;
  about: string;
  count: number;
  /** Events, each with what it is about. */
  rows: { ids: string[]; words: string }[];
  grave?: boolean;
}

export function findingsOf(report: Audit): Found[] {
  const plain = (ids: string[]) => ids.map((id) => ({ ids: [id], words: "" }));
  const kinds = (list: { event: string; kind: string }[]) =>
    list.map(({ event, kind }) => ({ ids: [event], words: kind }));
  const pairs = (list: { event: string; of: string }[], words: string) =>
    list.map(({ event, of }) => ({ ids: [event, of], words }));
  return [
    {
      name: "Secrets",
      about: "Keys, passwords and numbers that should not be kept.",
      count: report.secrets.length,
      rows: kinds(report.secrets),
      grave: true,
    },
    {
      name: "Planted instructions",
      about: "Texts that give orders to whoever reads them out of the memory.",
      count: report.instructions.length,
      rows: kinds(report.instructions),
      grave: true,
    },
    {
      name: "Failed",
      about: "Events that could not be derived from.",
      count: Object.keys(report.failed).length,
      rows: Object.entries(report.failed).map(([id, why]) => ({ ids: [id], words: why })),
      grave: true,
    },
    {
      name: "Recall loops",
      about: "What a recall had said, remembered anew.",
      count: report.loops.length,
      rows: pairs(report.loops, "repeats a recall"),
    },
    {
      name: "Stale facts",
      about: "Ended facts that were recalled without what ended them.",
      count: report.stale.length,
      rows: report.stale.map((one) => ({ ids: [...one.events, one.recall], words: one.predicate })),
    },
    {
      name: "Duplicates",
      about: "The same said again in almost the same words.",
      count: report.duplicated.count,
      rows: pairs(report.duplicates, "says the same"),
    },
    {
      name: "Restated",
      about: "Long texts that earlier events hold already.",
      count: report.restated.count,
      rows: plain(report.restated.examples),
    },
    {
      name: "Empty talk",
      about: "Greetings, thanks and nods.",
      count: report.empty_talk.count,
      rows: plain(report.empty_talk.examples),
    },
    { name: "Waiting", about: "Events not derived from yet.", count: report.waiting.length, rows: plain(report.waiting) },
  ];
}
