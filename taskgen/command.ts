import { Command, CommanderError } from 'commander';
import { messageOf } from '#shared/errors.ts';
import { TASKGEN_ERROR, TaskgenError } from './errors.ts';
import { lineDiff } from './line-diff.ts';
import type { ScriptParts } from './script-parts.ts';
import { remoteTwin } from './twin.ts';

/** What the command needs of the machine that it runs on. A path `-` is standard input or output. */
export interface Machine {
  readonly read: (path: string) => Promise<string>;
  readonly write: (path: string, text: string) => Promise<void>;
  /** Whether both are there and are one and the same, whatever they are called. */
  readonly isSameFile: (path: string, other: string) => Promise<boolean>;
  readonly print: (text: string) => void;
  readonly printError: (text: string) => void;
}

const EXIT = { done: 0, different: 1, failed: 2 } as const;

interface Options {
  readonly buildahTask: string;
  readonly remoteTask: string;
  readonly step?: string;
  readonly check?: true;
}

/**
 * @param argv what the user wrote behind the command's name
 * @returns the exit code: 0 done; 1 `--check` found a difference; 2 it failed, and nothing was written
 */
export async function runTaskgen(argv: readonly string[], machine: Machine, parts: ScriptParts): Promise<number> {
  try {
    const options = parseOptions(argv, machine);
    const { buildahTask: input, remoteTask: output, step } = options;
    if (options.check === true && output === '-') {
      throw new TaskgenError(TASKGEN_ERROR.usage, '--check compares with a file: --remote-task cannot be "-"');
    }
    if (input !== '-' && (await machine.isSameFile(input, output))) {
      throw new TaskgenError(TASKGEN_ERROR.usage, `${output} is the Task itself: the twin goes into another file`);
    }
    const twin = remoteTwin(await readText(machine, input), { step, parts });
    if (options.check === true) return await check(machine, output, twin);
    await machine.write(output, twin).catch((cause: unknown) => {
      throw new TaskgenError(TASKGEN_ERROR.cannotWrite, `cannot write ${output}: ${messageOf(cause)}`, { cause });
    });
    return EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.failed;
    if (!(error instanceof TaskgenError)) throw error;
    machine.printError([`taskgen: ${error.message}`, ...error.reasons.map((reason) => `  - ${reason}`), ''].join('\n'));
    return EXIT.failed;
  }
}

function parseOptions(argv: readonly string[], { print, printError }: Machine): Options {
  return new Command('taskgen')
    .description('Turns a Tekton Task into its remote twin, whose build step runs on a host of another platform.')
    .requiredOption('--buildah-task <file>', 'the Task; "-" for standard input')
    .requiredOption('--remote-task <file>', 'where the twin goes; "-" for standard output')
    .option('--step <name>', 'the step that runs remotely (default: "build", else "build-container")')
    .option('--check', 'write nothing; exit with 1 and print a diff where the file is not what it would become')
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeOut: print, writeErr: printError })
    .parse(argv, { from: 'user' })
    .opts<Options>();
}

async function readText({ read }: Machine, path: string): Promise<string> {
  return await read(path).catch((cause: unknown) => {
    throw new TaskgenError(TASKGEN_ERROR.cannotRead, `cannot read ${path}: ${messageOf(cause)}`, { cause });
  });
}

async function check(machine: Machine, path: string, twin: string): Promise<number> {
  const difference = lineDiff(await readText(machine, path), twin);
  if (difference === '') return EXIT.done;
  machine.print(`--- ${path}\n+++ what it is to be\n${difference}`);
  machine.printError(`taskgen: ${path} is not what it is generated from: run the same without --check\n`);
  return EXIT.different;
}
