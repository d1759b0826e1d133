import type { Clock } from '#shared/clock.ts';

/** What a person sees while they wait. */
export interface Progress {
  /** Something begins or is done: a line that stays. */
  step(text: string): void;
  /** How far it is: replaces the last such text on a terminal, and is printed now and then elsewhere. */
  update(text: string): void;
}

const PLAIN_UPDATE_EVERY_MS = 20_000;

/** An output that may be a terminal. */
export interface Output {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}

export function createProgress({ output, clock }: { output: Output; clock: Clock }): Progress {
  return output.isTTY === true ? terminalProgress(output) : plainProgress(output, clock);
}

function terminalProgress(output: Output): Progress {
  const clearLine = '\r\u001B[2K';
  return {
    step: (text) => output.write(`${clearLine}${text}\n`),
    // One column stays free: a full line would wrap, and then it could not be cleared.
    update: (text) => output.write(clearLine + text.slice(0, (output.columns ?? 80) - 1)),
  };
}

function plainProgress(output: Output, clock: Clock): Progress {
  let lastMs = clock.now();
  const print = (text: string): void => {
    lastMs = clock.now();
    output.write(`${text}\n`);
  };
  return {
    step: print,
    update: (text) => {
      if (text !== '' && clock.now() - lastMs >= PLAIN_UPDATE_EVERY_MS) print(text);
    },
  };
}
