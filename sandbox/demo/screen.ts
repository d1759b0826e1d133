import type { Output } from '../progress.ts';

export interface Terminal extends Output {
  readonly rows?: number | undefined;
}

/** Where the demo shows what happens. */
export interface Screen {
  /** Something has happened. */
  event(line: string): void;
  /** The picture now; `render` is called with the number of columns where there is a terminal to show it on. */
  draw(render: (columns: number) => string[]): void;
  /** Leaves the last picture where it is. May be called again. */
  close(): void;
}

/** A picture that moves on a terminal; plain lines, one for each event, elsewhere and where NO_COLOR or TERM=dumb ask for it. */
export function createScreen(output: Terminal, env: NodeJS.ProcessEnv): Screen {
  const plain = output.isTTY !== true || env['TERM'] === 'dumb' || (env['NO_COLOR'] ?? '') !== '';
  return plain ? plainScreen(output) : liveScreen(output);
}

function plainScreen(output: Output): Screen {
  return {
    event: (line) => output.write(`${line}\n`),
    draw: () => undefined,
    close: () => undefined,
  };
}

const ESC = '\u001B[';
const HIDE_CURSOR = `${ESC}?25l`;
const SHOW_CURSOR = `${ESC}?25h`;
const CLEAR_BELOW = `${ESC}J`;
const CLEAR_LINE_END = `${ESC}K`;

function liveScreen(output: Terminal): Screen {
  let height = 0;
  let isOpen = false;
  let closed = false;
  return {
    event: () => undefined,
    draw: (render) => {
      if (closed) return;
      if (!isOpen) output.write(HIDE_CURSOR);
      isOpen = true;
      // One column stays free: a full line would wrap on some terminals. What has scrolled away cannot be drawn over.
      const lines = render((output.columns ?? 80) - 1).slice(0, (output.rows ?? 24) - 1);
      const up = height === 0 ? '' : `${ESC}${height}A\r`;
      output.write(`${up}${lines.map((line) => `${line}${CLEAR_LINE_END}\n`).join('')}${CLEAR_BELOW}`);
      height = lines.length;
    },
    close: () => {
      if (isOpen) output.write(SHOW_CURSOR);
      isOpen = false;
      closed = true;
    },
  };
}
