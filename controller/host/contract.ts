import { AppError } from '#shared/errors.ts';

/** What is needed to reach a host. Two endpoints with the same values are the same machine as far as we can know. */
export interface Endpoint {
  /** IPv4, IPv6 (without brackets) or a DNS name. */
  readonly address: string;
  readonly port: number;
  /** The admin account: `root`, or one that may `sudo -n`. */
  readonly user: string;
  /** Name of the Secret in our namespace whose key `id_rsa` is the admin's private key. */
  readonly secret: string;
  /**
   * Public keys that the host may show, as `type base64` (a line of `known_hosts` without the host). Empty: none is known yet.
   */
  readonly hostKeys: readonly string[];
}

export const HOST_ERROR = {
  /** No connection: refused, no route, no such name, or no answer in time. */
  unreachable: 'host.unreachable',
  /** The host refused the admin's key. */
  authentication: 'host.authentication',
  /** The admin's private key cannot be read: missing Secret, missing `id_rsa`, not a key, or a key with a passphrase. */
  adminKey: 'host.admin-key',
  /** The host showed another key than the one that we know. */
  hostKeyChanged: 'host.key-changed',
  /** No key is known, and the policy is `strict`. */
  hostKeyUnknown: 'host.key-unknown',
  /** The admin is not root and may not `sudo -n`. */
  noSudo: 'host.no-sudo',
  /** A command that we need (say, `useradd`) is not there. */
  missingCommand: 'host.missing-command',
  diskFull: 'host.disk-full',
  readOnly: 'host.read-only',
  /** An account of that name is there and is not ours to touch. */
  foreignAccount: 'host.foreign-account',
  /** Something else is being done to this account, or to one that shares its lock. */
  busy: 'host.busy',
  /** Not everything of an account could be removed. */
  left: 'host.left',
  /** A command took longer than it may; whether it did its work is not known. */
  timeout: 'host.timeout',
  /** The connection ended while a command ran; whether it did its work is not known. */
  interrupted: 'host.interrupted',
  /** A command failed otherwise. */
  failed: 'host.failed',
} as const;

export type HostErrorCode = (typeof HOST_ERROR)[keyof typeof HOST_ERROR];

const AT_ANY_WORK: ReadonlySet<HostErrorCode> = new Set([
  HOST_ERROR.unreachable,
  HOST_ERROR.authentication,
  HOST_ERROR.adminKey,
  HOST_ERROR.hostKeyChanged,
  HOST_ERROR.hostKeyUnknown,
  HOST_ERROR.noSudo,
  HOST_ERROR.missingCommand,
  HOST_ERROR.interrupted,
]);

/** Whatever is tried next on the host will fail as well. All else may be the doing of one account: a tenant's, even. */
export function isOfHost(error: unknown): boolean {
  return error instanceof HostError && AT_ANY_WORK.has(error.code);
}

const OF_ONE_ACCOUNT: ReadonlySet<HostErrorCode> = new Set([
  HOST_ERROR.foreignAccount,
  HOST_ERROR.busy,
  HOST_ERROR.left,
]);

/** An account could not be made, and others can be. */
export function isOfOneAccount(error: unknown): boolean {
  return error instanceof HostError && OF_ONE_ACCOUNT.has(error.code);
}

/**
 * Something went wrong on a host. `message` is one line that may be shown to the user of a TaskRun: it says what, and what would be
 * right, without keys.
 */
export class HostError extends AppError {
  declare readonly code: HostErrorCode;
  /** False only where it is certain that no account was made or changed. */
  readonly mayHaveActed: boolean;

  constructor(code: HostErrorCode, message: string, options: ErrorOptions & { mayHaveActed?: boolean } = {}) {
    super(code, message, options);
    this.name = 'HostError';
    this.mayHaveActed = options.mayHaveActed ?? false;
  }
}

/** An account to be made. */
export interface AccountRequest {
  /** `u-` and 28 hex digits. */
  readonly account: string;
  readonly taskRunUid: string;
  /** One line, `type base64`. */
  readonly publicKey: string;
  /** Milliseconds since 1970 after which the key is refused by the host itself (`expiry-time`, sshd(8)). */
  readonly expiresAtMs: number;
  readonly limits: AccountLimits;
}

/** Limits for everything that the account runs (limits.conf(5)); undefined: none of ours. */
export interface AccountLimits {
  readonly maxProcesses?: number;
  readonly cpuSeconds?: number;
}

export interface MarkedAccount {
  readonly account: string;
  readonly taskRunUid: string;
}

/** What can be done on one host. Every method rejects with a {@link HostError} only. */
export interface HostOperations {
  /** Connects, checks that we can act as root, and that the commands that we need are there. */
  check(): Promise<void>;
  /**
   * Makes the account, with nothing in it but the key. One of that name with our mark is removed first, with everything it runs: it is
   * called only while nobody was ever given a key to it.
   */
  createAccount(request: AccountRequest): Promise<{ home: string }>;
  /** Locks the account, ends all it runs, deletes all it has, checks that nothing is left. Succeeds where it is gone already. */
  removeAccount(account: string): Promise<void>;
  /** The accounts that carry the mark of this installation. */
  listAccounts(): Promise<MarkedAccount[]>;
  /** Ends the connection; operations under way reject. */
  close(): void;
}
