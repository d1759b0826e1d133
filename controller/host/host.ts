import type { z } from 'zod';
import type { Clock } from '#shared/clock.ts';
import { AppError } from '#shared/errors.ts';
import type { Logger } from '#shared/log.ts';
import { ACCOUNT_NAME } from './account-name.ts';
import { CHECK_ANSWER, CREATE_ANSWER, LIST_ANSWER, REMOVE_ANSWER, readAnswer } from './answer.ts';
import { Connection, type ConnectionState } from './connection.ts';
import {
  type AccountLimits,
  type Endpoint,
  HOST_ERROR,
  HostError,
  type HostErrorCode,
  type HostOperations,
} from './contract.ts';
import { type HostKeyPolicy, parseHostKey } from './host-key.ts';
import { type ScriptName, type ScriptParameters, scriptText } from './scripts.ts';

export interface OperationReport {
  readonly operation: ScriptName;
  readonly outcome: 'success' | HostErrorCode;
  readonly seconds: number;
}

export interface HostOptions {
  readonly endpoint: Endpoint;
  /** The admin's private key as it is now; undefined where there is none. */
  readonly adminKey: () => string | undefined;
  readonly policy: HostKeyPolicy;
  /** Tells our accounts from those of another installation: letters, digits, `.`, `_` and `-`, at most 64. */
  readonly instance: string;
  /** Gets the key that is trusted from now on, `type base64`; nothing is done on the host before it resolves. */
  readonly onFirstKey: (line: string) => Promise<void>;
  /** Called in the moment in which anything is done on the host; throws where this process may not act any more. */
  readonly fence?: () => void;
  readonly onOperation?: (report: OperationReport) => void;
  readonly onStateChange?: (state: ConnectionState) => void;
  readonly clock: Clock;
  readonly log: Logger;
  /** For the TCP connection, and once more for handshake and authentication. Default: 10 s. */
  readonly connectTimeoutMs?: number;
  /** For every operation. Default: 30 s, 2 min for removing. */
  readonly operationTimeoutMs?: number;
  /** Default: 10 s; a dead peer is noticed after three times as long. */
  readonly keepaliveIntervalMs?: number;
}

const TIMEOUT_MS: Readonly<Record<ScriptName, number>> = {
  check: 30_000,
  create: 30_000,
  // The home of a build can have millions of files.
  remove: 120_000,
  list: 30_000,
};

/** A key expires by the host's clock: one that is wrong by more makes keys that die early or late. */
const MAX_CLOCK_SKEW_MS = 5 * 60_000;

/** What goes into a GECOS field and is told apart by blanks there. */
const PLAIN_WORD = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** @throws AppError `host.instance` where the name of the installation is no plain word. */
export function createHostOperations(options: HostOptions): HostOperations {
  const { endpoint, instance, clock, log } = options;
  if (!PLAIN_WORD.test(instance)) throw new AppError('host.instance', 'the instance must be one plain word');
  const connection = new Connection({
    ...options,
    onStateChange: (state) => {
      log.info({ address: endpoint.address, port: endpoint.port }, `host ${state}`);
      options.onStateChange?.(state);
    },
  });

  async function run<N extends ScriptName, T>(
    name: N,
    schema: z.ZodType<T>,
    parameters: ScriptParameters[N],
  ): Promise<T> {
    const start = clock.now();
    const report = (outcome: OperationReport['outcome']): void => {
      const seconds = (clock.now() - start) / 1000;
      log.debug({ address: endpoint.address, operation: name, outcome, seconds }, 'host operation');
      options.onOperation?.({ operation: name, outcome, seconds });
    };
    try {
      const timeoutMs = options.operationTimeoutMs ?? TIMEOUT_MS[name];
      const answer = readAnswer(schema, await connection.run(scriptText(name, parameters), { timeoutMs }), endpoint);
      report('success');
      return answer;
    } catch (cause) {
      const error = cause instanceof HostError ? cause : unexpected(cause);
      report(error.code);
      throw error;
    }
  }

  return {
    async check() {
      const { now } = await run('check', CHECK_ANSWER, { instance });
      const skewMs = now * 1000 - clock.now();
      if (Math.abs(skewMs) > MAX_CLOCK_SKEW_MS) {
        log.warn({ address: endpoint.address, skewSeconds: Math.round(skewMs / 1000) }, "the host's clock is wrong");
      }
    },
    async createAccount({ account, taskRunUid, publicKey, expiresAtMs, limits }) {
      expectAccount(account);
      expectPlain('TaskRun UID', taskRunUid);
      const { home } = await run('create', CREATE_ANSWER, {
        instance,
        account,
        taskrun: taskRunUid,
        public_key: plainKey(publicKey),
        expires: String(wholeNumber('expiry', expiresAtMs / 1000)),
        ...limitParameters(limits),
      });
      return { home };
    },
    async removeAccount(account) {
      expectAccount(account);
      await run('remove', REMOVE_ANSWER, { instance, account });
    },
    async listAccounts() {
      const { accounts } = await run('list', LIST_ANSWER, { instance });
      return accounts;
    },
    close: () => connection.close(),
  };
}

/** Limits.conf(5) counts processor time in minutes. */
function limitParameters({ maxProcesses, cpuSeconds }: AccountLimits): { max_processes: string; cpu_minutes: string } {
  const text = (what: string, value: number | undefined): string =>
    value === undefined ? '' : String(wholeNumber(what, value));
  return {
    max_processes: text('process limit', maxProcesses),
    cpu_minutes: text('CPU limit', cpuSeconds === undefined ? undefined : cpuSeconds / 60),
  };
}

function wholeNumber(what: string, value: number): number {
  const whole = Math.ceil(value);
  if (Number.isSafeInteger(whole) && whole > 0) return whole;
  throw new HostError(HOST_ERROR.failed, `the ${what} is no number above zero`);
}

function expectAccount(account: string): void {
  if (!ACCOUNT_NAME.test(account)) throw new HostError(HOST_ERROR.failed, 'that is no name of an account of ours');
}

function expectPlain(what: string, text: string): void {
  if (!PLAIN_WORD.test(text)) throw new HostError(HOST_ERROR.failed, `the ${what} is no plain word`);
}

/** A comment could not do harm, but a line feed would begin another key. */
function plainKey(line: string): string {
  const key = parseHostKey(line);
  if (key?.line === line) return line;
  throw new HostError(HOST_ERROR.failed, 'the public key is not of the form "type base64"');
}

function unexpected(cause: unknown): HostError {
  return new HostError(HOST_ERROR.failed, 'an operation on the host failed in an unexpected way', {
    cause,
    mayHaveActed: true,
  });
}
