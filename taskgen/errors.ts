import { AppError } from '#shared/errors.ts';

export const TASKGEN_ERROR = {
  /** Missing, contradicting or unknown arguments. */
  usage: 'taskgen.usage',
  cannotRead: 'taskgen.cannot-read',
  cannotWrite: 'taskgen.cannot-write',
  /** Not YAML, or not exactly one document. */
  malformed: 'taskgen.malformed',
  /** YAML, but not a Task of `tekton.dev/v1`. */
  notATask: 'taskgen.not-a-task',
  alreadyRemote: 'taskgen.already-remote',
  noSuchStep: 'taskgen.no-such-step',
  /** The Task uses what cannot be carried over to a host, or is written in a way that cannot be edited. */
  refused: 'taskgen.refused',
} as const;

export type TaskgenErrorCode = (typeof TASKGEN_ERROR)[keyof typeof TASKGEN_ERROR];

/** There is no twin; nothing was written. */
export class TaskgenError extends AppError {
  declare readonly code: TaskgenErrorCode;
  /** Where there are several reasons: each a line. */
  readonly reasons: readonly string[];

  constructor(code: TaskgenErrorCode, message: string, options: ErrorOptions & { reasons?: readonly string[] } = {}) {
    super(code, message, options);
    this.name = 'TaskgenError';
    this.reasons = options.reasons ?? [];
  }
}
