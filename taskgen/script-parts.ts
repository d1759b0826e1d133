import { readFileSync } from 'node:fs';

/** The texts that remote scripts are made of. */
export interface ScriptParts {
  /** For the step on the cluster's side. */
  readonly step: string;
  readonly host: string;
  readonly container: string;
}

/** From the files in `taskgen/remote`. */
export function readScriptParts(): ScriptParts {
  const read = (name: string): string => readFileSync(new URL(`remote/${name}.sh`, import.meta.url), 'utf8');
  return {
    step: ['begin', 'connection', 'files', 'image', 'run'].map(read).join('\n'),
    host: read('host'),
    container: read('container'),
  };
}
