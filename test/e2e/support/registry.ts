import { randomBytes } from 'node:crypto';
import { chmod, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fillCache, type Workplace } from '#sandbox/control-plane/cache.ts';
import { freePort } from '#sandbox/control-plane/free-port.ts';
import { mustRun } from '#sandbox/hosts/command.ts';
import { type Service, startService, waitUntilReady } from '#sandbox/process.ts';

/** A registry for container images, without TLS, that asks everybody for a password. */
export interface Registry {
  /** `address:port` */
  readonly name: string;
  readonly user: string;
  readonly password: string;
  /** What `~/.docker/config.json` says to log in. */
  readonly dockerConfig: string;
  stop(): Promise<void>;
}

const USER = 'builder';
const PASSWORD = 'a password of the sandbox';
/** Of that password, by bcrypt, the one form that this registry takes; nothing else on a machine makes one. */
const HASH = '$2y$04$11M6NegNpqAS1R17rdWYI.6dlk200RmqaEKjV9OeXJT4Lr2PBjzJK';

/** @param folder gets the images */
export async function startRegistry(address: string, folder: string, workplace: Workplace): Promise<Registry> {
  const program = path.join(await registryProgram(workplace), 'docker-registry');
  const name = `${address}:${await freePort()}`;
  const config = {
    version: '0.1',
    log: { level: 'warn' },
    storage: { filesystem: { rootdirectory: path.join(folder, 'images') } },
    auth: { htpasswd: { realm: 'sandbox', path: path.join(folder, 'htpasswd') } },
    http: { addr: name, secret: randomBytes(16).toString('hex') },
  };
  await writeFile(path.join(folder, 'htpasswd'), `${USER}:${HASH}\n`);
  await writeFile(path.join(folder, 'config.yaml'), JSON.stringify(config));
  const service: Service = await startService({
    name: 'registry',
    command: program,
    args: ['serve', path.join(folder, 'config.yaml')],
    logPath: path.join(folder, 'registry.log'),
  });
  const auth = Buffer.from(`${USER}:${PASSWORD}`).toString('base64');
  await waitUntilReady(service, {
    probe: async () => (await fetch(`http://${name}/v2/`, { headers: { authorization: `Basic ${auth}` } })).ok,
    timeoutMs: 10_000,
  });
  return {
    name,
    user: USER,
    password: PASSWORD,
    dockerConfig: JSON.stringify({ auths: { [name]: { auth } } }),
    stop: async () => await service.stop(),
  };
}

/** Debian's package without installing it: an installed one would start a registry of its own. */
async function registryProgram(workplace: Workplace): Promise<string> {
  const entry = { name: 'docker-registry-debian', files: ['docker-registry'] };
  return await fillCache(entry, workplace, async (folder) => {
    const download = async (): Promise<string> =>
      await mustRun('apt-get', ['download', 'docker-registry'], { cwd: folder });
    await download().catch(async () => {
      await mustRun('apt-get', ['update']);
      await download();
    });
    await mustRun('sh', ['-c', 'dpkg-deb --extract docker-registry_*.deb package && rm docker-registry_*.deb'], {
      cwd: folder,
    });
    await rename(path.join(folder, 'package/usr/bin/docker-registry'), path.join(folder, 'docker-registry'));
    await mustRun('rm', ['-r', 'package'], { cwd: folder });
    await chmod(path.join(folder, 'docker-registry'), 0o755);
  });
}
