import { redact } from '#shared/log.ts';

const MAX_LENGTH = 300;

/** What a host or its programs said, as part of a one-line message: printable, short, without keys. */
export function printable(text: string): string {
  const line = redact(text)
    .replaceAll(/[\p{C}\p{Z}\s]+/gu, ' ')
    .trim();
  return line.length <= MAX_LENGTH ? line : `${line.slice(0, MAX_LENGTH - 1)}…`;
}

/** `[address]:port` as OpenSSH writes it, or the address alone at port 22. */
export function hostAndPort({ address, port }: { readonly address: string; readonly port: number }): string {
  return printable(port === 22 ? address : `[${address}]:${port}`);
}
