import { type SpawnOptions, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { AppError } from '#shared/errors.ts';
import type { ExecResult } from './host.ts';

export interface CommandOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/**
 * Runs a program to its end.
 *
 * @throws AppError `command-missing` where it cannot be started.
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  { input, ...options }: CommandOptions = {},
): Promise<ExecResult> {
  const spawnOptions: SpawnOptions = { ...options, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] };
  return await new Promise((resolve, reject) => {
    const child = spawn(command, args, spawnOptions);
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.once('error', (cause) => {
      reject(new AppError('command-missing', `cannot run ${command}: ${cause.message}`, { cause }));
    });
    child.once('close', (code, signal) => {
      resolve({ code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]), stdout, stderr });
    });
    // A program may end without reading what it was given.
    child.stdin?.on('error', () => undefined).end(input);
  });
}

/**
 * The same for a program that must succeed; returns its standard output.
 *
 * @throws AppError `command-failed`, with the last line that it wrote to standard error.
 */
export async function mustRun(command: string, args: readonly string[], options?: CommandOptions): Promise<string> {
  return expectSuccess([command, ...args], await runCommand(command, args, options));
}

/** @throws AppError `command-failed` */
export function expectSuccess(argv: readonly string[], { code, stdout, stderr }: ExecResult): string {
  if (code === 0) return stdout;
  const why = stderr.trimEnd().split('\n').at(-1) ?? '';
  const what = argv.join(' ').split('\n', 1)[0]?.slice(0, 100) ?? '';
  throw new AppError('command-failed', `${what}: exit code ${code}: ${why}`);
}
