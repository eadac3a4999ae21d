/** Browser: the headless Chromium of Nibble's own development packages, driven by playwright-core. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';

/** As much of the packages as is used; the second is installed on first use, so its own types may be missing. */
interface Chromium {
  default: { executablePath(): Promise<string>; setGraphicsMode: boolean };
  inflate(archive: string): Promise<string>;
}
interface Playwright {
  chromium: { launch(options: object): Promise<Launched> };
}
interface Launched {
  newPage(): Promise<Page>;
  version(): string;
  close(): Promise<void>;
}
export interface Page {
  goto(url: string): Promise<unknown>;
  evaluate(code: string): Promise<unknown>;
}

export interface Browser {
  version: string;
  newPage(): Promise<Page>;
  close(): Promise<void>;
}

const CHROMIUM: string = '@sparticuz/chromium';
const PLAYWRIGHT: string = 'playwright-core';

/** Unpacks it into the temporary directory at the first time. */
export async function openBrowser(): Promise<Browser> {
  const { default: chromium, inflate } = (await import(CHROMIUM)) as Chromium;
  const { chromium: driver } = (await import(PLAYWRIGHT)) as Playwright;
  chromium.setGraphicsMode = false;
  const executablePath = await chromium.executablePath();
  const launch = (env: NodeJS.ProcessEnv) =>
    driver.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-gpu'], env });
  const launched = await launch(process.env).catch(async () => {
    // A machine without the libraries that every desktop has: the package brings them for Amazon's Linux.
    const archive = new URL('../bin/al2023.tar.br', import.meta.resolve(CHROMIUM));
    await inflate(archive.pathname);
    return launch({ ...process.env, LD_LIBRARY_PATH: join(tmpdir(), 'al2023', 'lib') });
  });
  return {
    version: `Chromium ${launched.version()}`,
    newPage: () => launched.newPage(),
    close: () => launched.close(),
  };
}
