import type { ComponentChildren } from "preact";
import type { Problem } from "../api/problem";

/** An error as the server told it: the whole message, and which field it is about. */
export function ProblemCard({ problem, children }: { problem: Problem; children?: ComponentChildren }) {
  const details = [problem.status, problem.type, problem.code].filter((one) => one !== null);
  return (
    <div class="problem" role="alert">
      <p class="problem-message">{problem.message}</p>
      {(problem.param || details.length > 0) && (
        <p class="problem-details">
          {problem.param && (
            <>
              Field <code>{problem.param}</code>
            </>
          )}
          {problem.param && details.length > 0 && " · "}
          {details.join(" · ")}
        </p>
      )}
      {children && <div class="problem-actions">{children}</div>}
    </div>
  );
}
