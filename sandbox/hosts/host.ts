export interface ExecResult {
  /** 128 + signal number where a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command as root on the host itself, without SSH. A command that fails is a result, not an error. */
export type Exec = (argv: readonly string[], options?: { readonly input?: string }) => Promise<ExecResult>;

export type HostKind = 'namespace' | 'container' | 'imitation';

export interface Admin {
  readonly name: string;
  /** May become root by `sudo -n`. Without meaning for root. */
  readonly sudo: boolean;
  /** `banner` is an `sh` that greets at length on standard output before it does anything, as company machines do. */
  readonly shell: 'sh' | 'bash' | 'fish' | 'banner';
}

export const ROOT: Admin = { name: 'root', sudo: false, shell: 'bash' };
export const SUDOER: Admin = { name: 'builder', sudo: true, shell: 'bash' };
export const NO_SUDO: Admin = { name: 'builder', sudo: false, shell: 'bash' };

export interface HostSpec {
  /** A host name: lower-case letters, digits and `-`, at most 63. */
  readonly name: string;
  /** Such as `linux/arm64`; what the host is listed as, its processor is that of this machine. */
  readonly platform: string;
  /** Default: {@link ROOT}. */
  readonly admin?: Admin;
  /** Default: 22. */
  readonly port?: number;
  /** An RSA host key beside the Ed25519 one; takes half a second to make. */
  readonly rsaHostKey?: boolean;
  /** The size of all that the host can store, in memory. Default: 1024. */
  readonly diskMb?: number;
}

export interface ProcessInfo {
  /** As the host itself counts. */
  readonly pid: number;
  readonly command: string;
}

/** What a test, or the demo's last look, asks a host. Nothing of it goes over SSH. */
export interface Inspection {
  /** Names of the accounts with our mark, sorted. */
  accounts(): Promise<string[]>;
  /** Those of the account's user id and of its subordinate ones; none where there is no such account. */
  processesOf(account: string): Promise<ProcessInfo[]>;
  /** Names of the folders in /home with our mark, sorted. */
  homes(): Promise<string[]>;
  /**
   * One line for each trace of an account that is gone: a process, a file, an IPC object of a user id that nobody has, a file
   * with our mark in its name, a line in a file of accounts or subordinate ids. Ask while nothing is being made or removed.
   */
  leftovers(): Promise<string[]>;
}

/**
 * What can be wrong with a host. Each returns when it is so, may be called again, and is gone again after `false`, `0`.
 *
 * @throws AppError `fault-unsupported` where this kind of host cannot do it.
 */
export interface Faults {
  /** The network card goes down: nothing is answered, nothing is refused. */
  setUnreachable(on: boolean): Promise<void>;
  /** The host stands still for this long, runs for a moment, stands still again: about so much longer takes each answer. */
  setSlow(pauseMs: number): Promise<void>;
  /** Connections are accepted and then nothing answers, those that are open included. */
  setHung(on: boolean): Promise<void>;
  /** No room for one more byte or file. */
  setFull(on: boolean): Promise<void>;
  setReadOnlyHome(on: boolean): Promise<void>;
  /** Sudo asks the admin for a password from now on. */
  breakSudo(on: boolean): Promise<void>;
  removeUseradd(on: boolean): Promise<void>;
  /** Returns the new Ed25519 key; open connections stay. */
  changeHostKey(): Promise<string>;
  /** Every process is killed, temporary files go, the disk stays; returns when sshd answers again. */
  reboot(): Promise<void>;
}

/** A machine with an sshd and accounts of its own. */
export interface Host extends Inspection, Faults {
  readonly kind: HostKind;
  readonly name: string;
  readonly platform: string;
  /** An IPv4 address that this machine reaches. */
  readonly address: string;
  /** Where the kind of host and this machine have IPv6. */
  readonly addressV6: string | undefined;
  readonly port: number;
  readonly admin: string;
  /** The Ed25519 key in force, `ssh-ed25519 AAAA…`. */
  readonly hostKey: string;
  readonly exec: Exec;
  /** Leaves nothing of it. May be called again. */
  stop(): Promise<void>;
}
