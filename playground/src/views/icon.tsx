/** Line icons on a 20 x 20 grid, drawn in the colour of the text around them. */

const PATHS = {
  menu: "M3 6h14M3 10h14M3 14h9",
  sliders: "M3 6h7m4 0h3M3 14h3m4 0h7M12 4v4M8 12v4",
  plus: "M10 4v12M4 10h12",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7 7V4h9v9h-3M4 7h9v9H4z",
  check: "M4 10.5l4 4 8-9",
  pencil: "M4 16l.8-3.4L13.5 4 16 6.5l-8.6 8.7z",
  again: "M16 10a6 6 0 1 1-1.8-4.3M16 3v4h-4",
  trash: "M4 6h12M8 6V4h4v2M6 6l.6 10h6.8L14 6",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  down: "M5 8l5 5 5-5",
  close: "M5 5l10 10M15 5L5 15",
  star: "M10 3.5l2 4.2 4.6.6-3.4 3.2.9 4.6L10 13.9 5.9 16.1l.9-4.6-3.4-3.2 4.6-.6z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

interface IconButtonProps {
  icon: IconName;
  label: string;
  onClick: () => void;
  disabled?: boolean;
  class?: string;
  expanded?: boolean;
}

export function IconButton({ icon, label, onClick, disabled, class: extra, expanded }: IconButtonProps) {
  return (
    <button
      type="button"
      class={`icon-button ${extra ?? ""}`}
      aria-label={label}
      title={label}
      aria-expanded={expanded}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
