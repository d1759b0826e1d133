import { expectSuccess } from './command.ts';
import type { Exec, Inspection, ProcessInfo } from './host.ts';

/** How every account that the controller makes is named. */
const ACCOUNT = /^u-[0-9a-f]{28}$/;
const FIRST_USER_ID = 1000;
const MAX_NAMED_PATHS = 20;

const LIST_PROCESSES = "grep -H -E '^(Name|Uid):' /proc/[0-9]*/status 2>/dev/null || true";

/** The account files come last: an account that is made meanwhile is known by then. */
const LIST_TRACES = String.raw`
find "$@" -xdev \( -uid +${FIRST_USER_ID - 1} -o -name 'u-*' \) -printf 'file:%U:%p\n' 2>/dev/null
awk 'NR > 1 { print "ipc:" $8 ":shared memory " $2 }' /proc/sysvipc/shm
awk 'NR > 1 { print "ipc:" $5 ":semaphore " $2 }' /proc/sysvipc/sem
awk 'NR > 1 { print "ipc:" $8 ":message queue " $2 }' /proc/sysvipc/msg
for table in group shadow gshadow subuid subgid passwd; do
  sed "s/^/$table:/" "/etc/$table" 2>/dev/null
done
exit 0
`;

interface OwnedProcess extends ProcessInfo {
  readonly uid: number;
}

/** @param searchRoots where files of accounts can lie; each is searched without leaving its file system. */
export function inspectionOf(exec: Exec, searchRoots: readonly string[]): Inspection {
  const shell = async (script: string, ...args: readonly string[]): Promise<string[]> => {
    const argv = ['sh', '-c', script, 'sh', ...args];
    return expectSuccess(argv, await exec(argv))
      .split('\n')
      .filter(Boolean);
  };
  const userIds = async (): Promise<Map<string, number>> =>
    new Map((await shell('cat /etc/passwd')).map((line) => accountOf(line.split(':'))));
  const processes = async (): Promise<OwnedProcess[]> => parseProcesses(await shell(LIST_PROCESSES));
  return {
    accounts: async () => [...(await userIds()).keys()].filter(isOurs).toSorted(),
    homes: async () => (await shell('ls -A /home')).filter(isOurs).toSorted(),
    processesOf: async (account) => {
      const uid = (await userIds()).get(account);
      const all = await processes();
      return all.filter((found) => found.uid === uid).map(({ pid, command }) => ({ pid, command }));
    },
    leftovers: async () => {
      const running = await processes();
      return leftoversIn(await shell(LIST_TRACES, ...searchRoots), running);
    },
  };
}

function leftoversIn(traces: readonly string[], running: readonly OwnedProcess[]): string[] {
  const records = traces.map((line) => {
    const [kind = '', ...fields] = line.split(':');
    return { kind, fields };
  });
  const tableOf = (table: string): string[][] => records.filter(({ kind }) => kind === table).map((r) => r.fields);

  const accounts = new Map(tableOf('passwd').map(accountOf));
  const userIds = new Set(accounts.values());
  const ranges = tableOf('subuid')
    .filter(([name = '']) => accounts.has(name))
    .map(([, first, count]) => ({ first: Number(first), count: Number(count) }));
  const isNobodys = (uid: number): boolean =>
    uid >= FIRST_USER_ID &&
    !userIds.has(uid) &&
    !ranges.some(({ first, count }) => uid >= first && uid < first + count);
  const isGone = (name: string): boolean => isOurs(name) && !accounts.has(name);

  const lines = ['group', 'shadow', 'gshadow', 'subuid', 'subgid'].flatMap((table) =>
    tableOf(table)
      .filter(([name = '']) => isGone(name))
      .map(([name]) => `/etc/${table} has a line for ${name}`),
  );
  const paths = tableOf('file')
    .map(([uid, ...rest]) => ({ uid: Number(uid), path: rest.join(':') }))
    .filter(({ uid, path }) => isNobodys(uid) || isGone(path.slice(path.lastIndexOf('/') + 1)))
    .map(({ uid, path }) => `${path} of user ${uid}`);
  return [
    ...running.filter(({ uid }) => isNobodys(uid)).map((p) => `process ${p.pid} (${p.command}) of user ${p.uid}`),
    ...tableOf('ipc')
      .filter(([uid]) => isNobodys(Number(uid)))
      .map(([uid, what]) => `${what} of user ${uid}`),
    ...lines,
    ...paths.slice(0, MAX_NAMED_PATHS),
    ...(paths.length > MAX_NAMED_PATHS ? [`${paths.length - MAX_NAMED_PATHS} more files`] : []),
  ];
}

function isOurs(name: string): boolean {
  return ACCOUNT.test(name);
}

/** Passwd(5): name, password, user id, … */
function accountOf([name = '', , uid]: readonly string[]): [string, number] {
  return [name, Number(uid)];
}

/** Lines like `/proc/12/status:Name:⇥sshd` and `/proc/12/status:Uid:⇥0⇥0⇥0⇥0`, the name first. */
function parseProcesses(lines: readonly string[]): OwnedProcess[] {
  const names = new Map<number, string>();
  return lines.flatMap((line) => {
    const { pid, field, value } = /^\/proc\/(?<pid>\d+)\/status:(?<field>\w+):\t(?<value>.*)$/.exec(line)?.groups ?? {};
    if (field !== 'Uid') {
      names.set(Number(pid), value ?? '');
      return [];
    }
    return [{ pid: Number(pid), uid: Number.parseInt(value ?? '', 10), command: names.get(Number(pid)) ?? '' }];
  });
}
