import { pino, type DestinationStream, type Logger } from 'pino';

export type { Logger } from 'pino';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * What must never be seen: private keys in PEM (their newlines escaped or not) or base64 of it, and bearer tokens. It is the last
 * line of defence; no caller hands a secret to the log on purpose.
 */
const SECRETS: readonly RegExp[] = [
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/gs,
  /LS0tLS1CRUdJTi[A-Za-z0-9+/=]*/g,
  /\bBearer\s+[A-Za-z0-9._~+/=-]{8,}/g,
  /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/g,
];

/** `text` with every secret that has a known form replaced by `[redacted]`. */
export function redact(text: string): string {
  let clean = text;
  for (const pattern of SECRETS) clean = clean.replaceAll(pattern, '[redacted]');
  return clean;
}

/** JSON lines with `level` as a word, `time` as an ISO date and `msg`; goes to standard output where no `destination` is given. */
export function createLog(options: { level: LogLevel; destination?: DestinationStream }): Logger {
  const destination = options.destination ?? pino.destination({ dest: 1, sync: true });
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // A stack trace names our files, not the reader's problem: an error is logged as its message and code.
      serializers: {
        err: (error: unknown) =>
          error instanceof Error ? { message: error.message, code: 'code' in error ? error.code : undefined } : error,
      },
    },
    { write: (line: string) => destination.write(redactLine(line)) },
  );
}

/** A redaction that ran to the end of the line took the closing brace with it; a line must stay JSON. */
function redactLine(line: string): string {
  const clean = redact(line);
  if (clean.length === line.length || clean.endsWith('}\n')) return clean;
  return `${JSON.stringify({ level: 'warn', msg: 'a log line that held a cut-off private key was dropped' })}\n`;
}
