/** Skips a component's redraw while its props are the same objects: text being typed or streamed
 *  changes the store many times a second, and most messages stay as they are. */

import { Component, type ComponentChild, type ComponentType, createElement, type FunctionComponent } from "preact";

export function pure<P extends object>(inner: FunctionComponent<P>): ComponentType<P> {
  return class Pure extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      const before = this.props as Record<string, unknown>;
      const after = next as Record<string, unknown>;
      return Object.keys(after).some((name) => !Object.is(before[name], after[name]));
    }
    override render(): ComponentChild {
      return createElement(inner, this.props as P) as ComponentChild;
    }
  };
}
