import { describe, expect, test } from 'vitest';
import { refusalOf, taskWith, twinOf } from './testing.ts';

const VOLUMES = [
  { name: 'scratch', emptyDir: {} },
  { name: 'claim', persistentVolumeClaim: { claimName: 'x' } },
  { name: 'secret', secret: { secretName: 'x' } },
  { name: 'config', configMap: { name: 'x' } },
  { name: 'both', projected: { sources: [] } },
  { name: 'node', hostPath: { path: '/dev' } },
];

/** The lines of the script that say what is carried, and where container storage is. */
function carriedBy(step: object, spec: object = {}): string[] {
  const twin = twinOf(taskWith(step, { volumes: VOLUMES, ...spec }));
  return [...twin.matchAll(/^ *(?<line>carry .*|storage=.*)$/gm)].map((match) => match.groups?.['line'] ?? '');
}

const EMPTY = ['carry rw workspace /workspace', 'carry rw results /tekton/results', "storage=''"];

test('every step has a folder for workspaces and one for results', () => {
  expect(carriedBy({})).toEqual(EMPTY);
});

test('workspaces, of the default path or their own; read-only ones do not come back', () => {
  const workspaces = [
    { name: 'a' },
    { name: 'b', mountPath: '/b/' },
    { name: 'c', readOnly: true, mountPath: '/c', optional: true },
  ];
  expect(carriedBy({}, { workspaces })).toEqual([
    'carry rw workspace /workspace /a',
    'carry rw workspaces/a /workspace/a',
    'carry rw workspaces/b /b',
    'carry ro readonly/workspace-c /c',
    'carry rw results /tekton/results',
    "storage=''",
  ]);
});

test('volumes of the step and of the template: what can be written comes back', () => {
  const mount = (name: string, more: object = {}): object => ({ name, mountPath: `/mnt/${name}`, ...more });
  const stepTemplate = { volumeMounts: [mount('scratch'), mount('claim', { readOnly: true }), mount('config')] };
  const volumeMounts = [
    mount('secret'),
    { name: 'both', mountPath: '/mnt/config' },
    mount('claim', { subPath: 'in/side', mountPath: '/x' }),
  ];
  expect(carriedBy({ volumeMounts: volumeMounts.slice(0, 2) }, { stepTemplate })).toEqual([
    'carry rw workspace /workspace',
    'carry rw volumes/scratch /mnt/scratch',
    'carry ro readonly/claim /mnt/claim',
    'carry ro readonly/both /mnt/config',
    'carry ro readonly/secret /mnt/secret',
    'carry rw results /tekton/results',
    "storage=''",
  ]);
  expect(carriedBy({ volumeMounts: volumeMounts.slice(2) })).toContain('carry rw volumes/claim.-x /x');
});

test('what is mounted inside of something else is carried once', () => {
  const volumeMounts = [
    { name: 'scratch', mountPath: '/workspace/a/b[1]*' },
    { name: 'claim', mountPath: '/workspace/a/\\c?' },
    { name: 'config', mountPath: '/workspace' },
  ];
  expect(carriedBy({ volumeMounts }, { workspaces: [{ name: 'a' }] })).toEqual([
    "carry rw workspaces/a /workspace/a '/b[[]1][*]' '/[\\\\]c[?]'",
    "carry rw volumes/scratch '/workspace/a/b[1]*'",
    "carry rw volumes/claim '/workspace/a/\\c?'",
    "carry ro readonly/config /workspace /a '/a/b[[]1][*]' '/a/[\\\\]c[?]'",
    'carry rw results /tekton/results',
    "storage=''",
  ]);
});

test.each(['/var/lib/containers', '/var/lib/containers/storage', '/home/build/.local/share/containers/storage'])(
  'of the container storage in %s only the image comes back',
  (mountPath) => {
    const step = { volumeMounts: [{ name: 'scratch', mountPath }] };
    const reason = `step build: the image in ${mountPath} comes back by its name: it needs an env IMAGE that says it`;
    expect(refusalOf(taskWith(step, { volumes: VOLUMES })).reasons).toEqual([reason]);
    const env = [{ name: 'IMAGE', value: 'x' }];
    expect(carriedBy({ ...step, env })).toEqual([...EMPTY.slice(0, 2), `storage=${mountPath}`]);
  },
);

describe('refused by name', () => {
  test.each<[string, object[]]>([
    [
      'volume node at /d: hostPath belongs to the node or the cluster and cannot be carried over',
      [{ name: 'node', mountPath: '/d' }],
    ],
    ['volume gone at /d: the Task declares no such volume', [{ name: 'gone', mountPath: '/d' }]],
    [
      'volume scratch at /d: mountPropagation cannot be carried over',
      [{ name: 'scratch', mountPath: '/d', mountPropagation: 'Bidirectional' }],
    ],
    ['volume scratch at /a:b: the path /a:b has a colon in it', [{ name: 'scratch', mountPath: '/a:b' }]],
    ['volume scratch at a: the path a is not absolute', [{ name: 'scratch', mountPath: 'a' }]],
    [
      'volume scratch at /$(params.x): the path /$(params.x) holds a variable, but it must be known beforehand',
      [{ name: 'scratch', mountPath: '/$(params.x)' }],
    ],
    ['volume scratch at /: the path / is taken', [{ name: 'scratch', mountPath: '/' }]],
    ['volume scratch at /ssh/x: the path /ssh/x is taken', [{ name: 'scratch', mountPath: '/ssh/x' }]],
    [
      'volume scratch at /tekton/home: the path /tekton/home is taken',
      [{ name: 'scratch', mountPath: '/tekton/home' }],
    ],
    [
      'volume scratch at /b: it is mounted elsewhere as well',
      [
        { name: 'scratch', mountPath: '/a', subPath: 'a' },
        { name: 'scratch', mountPath: '/b' },
      ],
    ],
  ])('%s', (reason, volumeMounts) => {
    expect(refusalOf(taskWith({ volumeMounts }, { volumes: VOLUMES })).reasons).toEqual([`step build: ${reason}`]);
  });

  test('a workspace', () => {
    expect(refusalOf(taskWith({}, { workspaces: [{ name: 'a*' }, { name: 'b', mountPath: '/x:y' }] })).reasons).toEqual(
      [
        'step build: workspace a*: its name cannot name a folder',
        'step build: workspaces/b: the path /x:y has a colon in it',
      ],
    );
  });
});
