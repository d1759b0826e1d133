/**
 * An error that somebody can act on. Branch on `code`, never on the text.
 *
 * `message` is one line, safe to show: it never holds a key, a token or a stack trace.
 */
export class AppError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AppError';
    this.code = code;
  }
}

/** One line for a person, whatever was thrown. */
export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0] ?? '';
}
