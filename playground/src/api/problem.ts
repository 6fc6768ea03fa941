/** What went wrong, in a form that can be shown in full and kept with a conversation. */

export interface Problem {
  message: string;
  param: string | null;
  type: string | null;
  code: string | null;
  /** HTTP status, or null when the failure came after the headers or before any answer. */
  status: number | null;
}

export class ApiError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.message);
    this.name = "ApiError";
    this.problem = problem;
  }
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" || typeof value === "number" ? String(value) : null;
}

/** Reads the contract's `{"error": {...}}`, and keeps whatever else a proxy may answer. */
export function problemFrom(body: unknown, status: number | null): Problem {
  const error = isRecord(body) ? (body["error"] ?? body["detail"]) : body;
  const fields = isRecord(error) ? error : {};
  const said = textOrNull(fields["message"]) ?? textOrNull(error);
  return {
    message: said?.trim() || (status === null ? "The server reported an error." : `The server answered ${status}.`),
    param: textOrNull(fields["param"]),
    type: textOrNull(fields["type"]),
    code: textOrNull(fields["code"]),
    status,
  };
}

export function problemOf(thrown: unknown): Problem {
  if (thrown instanceof ApiError) return thrown.problem;
  // fetch rejects with a TypeError whose text differs between browsers and says nothing useful.
  const message =
    thrown instanceof TypeError
      ? "Could not reach the server. Check that it is running, then try again."
      : thrown instanceof Error
        ? thrown.message
        : String(thrown);
  return { message, param: null, type: null, code: null, status: null };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
