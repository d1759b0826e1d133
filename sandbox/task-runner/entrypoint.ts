import { AppError } from '#shared/errors.ts';
import { parseGoDuration } from './duration.ts';

/**
 * How a step is written into its container, after Tekton's entrypoint: the step's own command follows the flags. The stand-in for
 * the kubelet plays that entrypoint itself.
 */
export interface Entrypoint {
  /** Names of the results that the step may write. */
  readonly results: readonly string[];
  readonly continueOnError: boolean;
  readonly timeoutMs: number | undefined;
  readonly argv: readonly string[];
}

export const ENTRYPOINT = '/tekton/bin/entrypoint';

export function entrypointArgs(step: {
  results: readonly string[];
  onError: string | undefined;
  timeout: string | undefined;
  argv: readonly string[];
}): string[] {
  const [command = '', ...args] = step.argv;
  return [
    ...(step.results.length > 0 ? ['-results', step.results.join(',')] : []),
    ...(step.onError === undefined ? [] : ['-on_error', step.onError]),
    ...(step.timeout === undefined ? [] : ['-timeout', step.timeout]),
    '-entrypoint',
    command,
    '--',
    ...args,
  ];
}

/** @throws AppError `unsupported-container` where the arguments are not such as {@link entrypointArgs} writes */
export function parseEntrypoint(args: readonly string[]): Entrypoint {
  const end = args.indexOf('--');
  const flags = new Map<string, string>();
  for (let i = 0; i < end; i += 2) flags.set(args[i] ?? '', args[i + 1] ?? '');
  const command = flags.get('-entrypoint');
  if (end < 0 || command === undefined) {
    throw new AppError('unsupported-container', 'the stand-in runs only containers that its own Tekton stand-in wrote');
  }
  const timeout = flags.get('-timeout');
  return {
    results: flags.get('-results')?.split(',') ?? [],
    continueOnError: flags.get('-on_error') === 'continue',
    timeoutMs: timeout === undefined ? undefined : parseGoDuration(timeout),
    argv: [command, ...args.slice(end + 1)],
  };
}

/** The two kinds of entries in a container's termination message that the stand-in writes and reads; the numbers are Tekton's. */
const RESULT = 1;
const INTERNAL = 3;

/** The kubelet cuts a termination message off here; Tekton's entrypoint refuses to write a longer one. */
const MAX_MESSAGE_BYTES = 4096;

export interface TerminationMessage {
  readonly results: ReadonlyMap<string, string>;
  /** Such as `TimeoutExceeded`. */
  readonly reason?: string | undefined;
  /** Set where the container says 0 because the step may fail. */
  readonly exitCode?: number | undefined;
}

/** @throws AppError `result-too-large` */
export function formatTerminationMessage({ results, reason, exitCode }: TerminationMessage): string {
  const entries = [
    ...Array.from(results, ([key, value]) => ({ key, value, type: RESULT })),
    ...(reason === undefined ? [] : [{ key: 'Reason', value: reason, type: INTERNAL }]),
    ...(exitCode === undefined ? [] : [{ key: 'ExitCode', value: String(exitCode), type: INTERNAL }]),
  ];
  if (entries.length === 0) return '';
  const message = JSON.stringify(entries);
  if (Buffer.byteLength(message) > MAX_MESSAGE_BYTES) {
    throw new AppError(
      'result-too-large',
      `Termination message is above max allowed size ${MAX_MESSAGE_BYTES}, caused by large task result.`,
    );
  }
  return message;
}

export function parseTerminationMessage(message: string | undefined): TerminationMessage {
  const results = new Map<string, string>();
  let reason: string | undefined;
  let exitCode: number | undefined;
  for (const { key, value, type } of entriesOf(message)) {
    if (type === RESULT) results.set(key, value);
    else if (key === 'Reason') reason = value;
    else if (key === 'ExitCode') exitCode = Number(value);
  }
  return { results, reason, exitCode };
}

function entriesOf(message = ''): { key: string; value: string; type: number }[] {
  try {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only formatTerminationMessage writes these
    return JSON.parse(message) as { key: string; value: string; type: number }[];
  } catch {
    return [];
  }
}
