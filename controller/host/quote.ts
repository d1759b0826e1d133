import { AppError } from '#shared/errors.ts';

/**
 * `value` as one word for a POSIX shell: whatever it holds, the shell takes it literally.
 *
 * Nothing is special between single quotes but the single quote itself (POSIX.1-2024, Shell Command Language, 2.2.2).
 *
 * @throws AppError `quote.nul` where it holds a NUL, which no shell can pass on.
 */
export function quote(value: string): string {
  if (value.includes('\0')) throw new AppError('quote.nul', 'a NUL character cannot be handed to a shell');
  return `'${value.replaceAll("'", String.raw`'\''`)}'`;
}
