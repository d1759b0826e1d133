import { expectSuccess } from './command.ts';
import type { Exec, Inspection, ProcessInfo } from './host.ts';

/** How every account that the controller makes is named. */
const ACCOUNT = /^u-[0-9a-f]{28}$/;
const FIRST_USER_ID = 1000;
const MAX_NAMED_PATHS = 20;

const LIST_PROCESSES = "grep -H -E '^(Name|Uid):' /proc/[0-9]*/status 2>/dev/null || true";

const LIST_ACCOUNTS = 'sed s/^/passwd:/ /etc/passwd; sed s/^/subuid:/ /etc/subuid 2>/dev/null; exit 0';

/** The account files come last: an account that is made meanwhile is known by then. */
const LIST_TRACES = String.raw`
changes=$1
shift
find "$@" $changes -xdev \( -uid +${FIRST_USER_ID - 1} -o -name 'u-*' \) -printf 'file:%U:%p\n' 2>/dev/null |
  sed "s|:$changes/|:/|"
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

export interface SearchIn {
  /** Where files of accounts can lie; each is searched without leaving its file system. */
  readonly folders: readonly string[];
  /** Where the host keeps what was changed in the rest of its root, if it is an overlay; '' if not. */
  readonly changes: string;
}

export function inspectionOf(exec: Exec, searchIn: SearchIn): Inspection {
  const shell = async (script: string, ...args: readonly string[]): Promise<string[]> => {
    const argv = ['sh', '-c', script, 'sh', ...args];
    return expectSuccess(argv, await exec(argv))
      .split('\n')
      .filter(Boolean);
  };
  const processes = async (): Promise<OwnedProcess[]> => parseProcesses(await shell(LIST_PROCESSES));
  return {
    accounts: async () => (await shell('cut -d : -f 1 /etc/passwd')).filter(isOurs).toSorted(),
    homes: async () => (await shell('ls -A /home')).filter(isOurs).toSorted(),
    processesOf: async (account) => {
      const all = await processes();
      const owned = idsOf(account, tablesIn(await shell(LIST_ACCOUNTS)));
      return all.filter(({ uid }) => owned(uid)).map(({ pid, command }) => ({ pid, command }));
    },
    leftovers: async () => {
      const running = await processes();
      return leftoversIn(await shell(LIST_TRACES, searchIn.changes, ...searchIn.folders), running);
    },
  };
}

type Tables = (name: string) => string[][];

/** Lines of many files, each with the file's name and a colon before it. */
function tablesIn(lines: readonly string[]): Tables {
  const rows = lines.map((line) => line.split(':'));
  return (name) => rows.filter(([table]) => table === name).map(([, ...fields]) => fields);
}

/** True for the account's user id (passwd(5): the third field) and its subordinate ones (subuid(5)). */
function idsOf(account: string, tableOf: Tables): (uid: number) => boolean {
  const own = tableOf('passwd')
    .filter(([name]) => name === account)
    .map(([, , uid]) => ({ first: Number(uid), count: 1 }));
  const subordinate = tableOf('subuid')
    .filter(([name]) => name === account)
    .map(([, first, count]) => ({ first: Number(first), count: Number(count) }));
  const ranges = [...own, ...(own.length === 0 ? [] : subordinate)];
  return (uid) => ranges.some(({ first, count }) => uid >= first && uid < first + count);
}

function leftoversIn(traces: readonly string[], running: readonly OwnedProcess[]): string[] {
  const tableOf = tablesIn(traces);
  const accounts = new Set(tableOf('passwd').map(([name = '']) => name));
  const owners = [...accounts].map((account) => idsOf(account, tableOf));
  const isNobodys = (uid: number): boolean => uid >= FIRST_USER_ID && !owners.some((owns) => owns(uid));
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
