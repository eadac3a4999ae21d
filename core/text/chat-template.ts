/** Chat template: messages to a prompt, by the Jinja template that a checkpoint carries, run under a budget. */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import { z } from 'zod';
import { NibbleError } from '../errors.ts';
import { tokenContent } from './tokenizer.ts';

/** The longest published templates, with every kind of tool call, have about 30,000. */
export const MAX_TEMPLATE_CHARS = 500_000;
/** A request's body is at most 1 MB; published templates add tens of characters a message. */
export const MAX_PROMPT_CHARS = 4_000_000;
/** Twice what OpenAI takes; a message's frame alone is about five tokens, so longer conversations fill any context. */
export const MAX_MESSAGES = 4096;
/** Nodes evaluated in one rendering, with loops and long values counted in: 4096 messages through a template of 300 nodes, four times over. */
const MAX_STEPS = 5_000_000;
/** A loop's own work for one turn, beside its body, measured in nodes. */
const STEPS_PER_TURN = 4;
/** Characters, or elements of a list, that are copied or searched in the time of one node. */
const CHARS_PER_STEP = 256;
const ELEMENTS_PER_STEP = 64;
/** Elements of one list, so that range() and list concatenation cannot fill the memory. */
const MAX_LIST = 100_000;

const Named = z.array(z.object({ name: z.string().max(200), template: z.string() })).max(100);

export interface ChatMessage {
  role: string;
  content: string;
}

export interface RenderOptions {
  /** Ends the prompt where the assistant's answer begins. */
  addGenerationPrompt: boolean;
  /** What the template's strftime_now(format) returns. Without it the function is undefined, and templates that allow for that use their own date. */
  strftimeNow?: (format: string) => string;
}

export class ChatTemplate {
  readonly #program: ReturnType<typeof parse>;
  readonly #specialTokens: Readonly<Record<string, string>>;
  readonly #asksForDate: boolean;

  /**
   * `specialTokens`: the template's bos_token, eos_token and the like. Throws `file_invalid` when the source is too long or no Jinja.
   */
  constructor(source: string, specialTokens: Readonly<Record<string, string>>, file: string) {
    const invalid = (rule: string) => new NibbleError({ code: 'file_invalid', file, tensor: null, rule });
    if (source.length > MAX_TEMPLATE_CHARS)
      throw invalid(`the chat template has ${source.length} characters, over ${MAX_TEMPLATE_CHARS}`);
    try {
      // As the library's Template does, and as transformers does.
      this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      throw invalid(`the chat template is not valid: ${(error as Error).message}`);
    }
    this.#specialTokens = specialTokens;
    this.#asksForDate = source.includes('strftime_now');
  }

  /** The prompt. Throws `invalid_request` when the template refuses the messages or runs out of its budget. */
  render(messages: readonly ChatMessage[], options: RenderOptions = { addGenerationPrompt: true }): string {
    if (messages.length > MAX_MESSAGES)
      throw refused(`${messages.length} messages are more than the ${MAX_MESSAGES} that a conversation may have`);
    const { addGenerationPrompt, strftimeNow } = options;
    const variables: Record<string, unknown> = {
      ...this.#specialTokens,
      messages: messages.map(({ role, content }) => ({ role, content })),
      add_generation_prompt: addGenerationPrompt,
      // transformers passes these as None when there are none.
      tools: null,
      documents: null,
      ...(strftimeNow === undefined ? {} : { strftime_now: strftimeNow }),
    };
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...GLOBALS, ...variables })) environment.set(name, value);
    let rendered: unknown;
    try {
      rendered = new BudgetedInterpreter(environment).run(this.#program).value;
    } catch (error) {
      if (error instanceof NibbleError) throw error;
      const date =
        this.#asksForDate && strftimeNow === undefined ? ' (it asks for the date, which is not given here)' : '';
      throw refused(`${(error as Error).message}${date}`);
    }
    if (typeof rendered !== 'string') throw refused('it renders to no text');
    return rendered;
  }
}

/**
 * The checkpoint's template: the text of chat_template.jinja where there is one, else tokenizer_config.json's chat_template
 * (a string, or a list of which "default" is taken). null when there is neither.
 */
export function chatTemplateOf(tokenizerConfig: unknown, jinjaFile: string | null): ChatTemplate | null {
  const config = typeof tokenizerConfig === 'object' && tokenizerConfig !== null ? tokenizerConfig : {};
  const specialTokens = specialTokensOf(config);
  if (jinjaFile !== null) return new ChatTemplate(jinjaFile, specialTokens, 'chat_template.jinja');
  const file = 'tokenizer_config.json';
  const template: unknown = Object.hasOwn(config, 'chat_template')
    ? (config as Record<string, unknown>).chat_template
    : null;
  if (template === null || template === undefined) return null;
  if (typeof template === 'string') return new ChatTemplate(template, specialTokens, file);
  const named = Named.safeParse(template);
  if (!named.success)
    throw new NibbleError({
      code: 'file_invalid',
      file,
      tensor: null,
      rule: 'chat_template is neither a text nor a list of named templates',
    });
  const standard = named.data.find(({ name }) => name === 'default');
  if (standard === undefined)
    throw new NibbleError({
      code: 'model_unsupported',
      file,
      option: 'chat_template',
      reason: 'its list has no template named "default"',
    });
  return new ChatTemplate(standard.template, specialTokens, file);
}

function specialTokensOf(config: object): Record<string, string> {
  const names = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'];
  const fields = new Map(Object.entries(config));
  return Object.fromEntries(
    names.flatMap((name) => {
      const content = tokenContent(fields.get(name));
      return content === null ? [] : [[name, content]];
    }),
  );
}

function refused(reason: string): NibbleError {
  return new NibbleError({
    code: 'invalid_request',
    param: 'messages',
    reason: `The model's chat template failed: ${reason}.`,
  });
}

/** What Jinja and transformers define; the library's own set has a range() without a bound and reads the clock. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception(message: unknown) {
    throw new Error(String(message).slice(0, 1000));
  },
  range(first: number, second?: number, step = 1) {
    const [start, stop] = second === undefined ? [0, first] : [first, second];
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (!(length <= MAX_LIST)) throw new Error(`range() of ${length} elements is over ${MAX_LIST}`);
    return Array.from({ length }, (_, i) => start + i * step);
  },
};

/** Counts what it evaluates and measures what comes out, so that no template runs or grows without bound. */
class BudgetedInterpreter extends Interpreter {
  #steps = 0;
  /** Nodes over whose values a loop runs. */
  readonly #loopedOver = new Set<unknown>();

  override evaluate(...[node, environment]: Parameters<Interpreter['evaluate']>): ReturnType<Interpreter['evaluate']> {
    this.#spend(1);
    if (node?.type === 'For') this.#loopedOver.add(loopedOver(node as unknown as Loop));
    const result = super.evaluate(node, environment);
    const value: unknown = result.value;
    if (typeof value === 'string') {
      if (value.length > MAX_PROMPT_CHARS) throw new Error(`it renders more than ${MAX_PROMPT_CHARS} characters`);
      this.#spend(value.length / CHARS_PER_STEP);
    } else if (Array.isArray(value) || value instanceof Map) {
      const size = Array.isArray(value) ? value.length : value.size;
      if (size > MAX_LIST) throw new Error(`it makes a list of more than ${MAX_LIST} elements`);
      this.#spend(this.#loopedOver.has(node) ? size * STEPS_PER_TURN : size / ELEMENTS_PER_STEP);
    }
    return result;
  }

  #spend(steps: number): void {
    this.#steps += steps;
    if (this.#steps > MAX_STEPS) throw new Error(`it takes more than ${MAX_STEPS} steps`);
  }
}

/** The library's syntax node of a for-loop, as far as it matters here. */
interface Loop {
  iterable: { type: string; lhs?: unknown };
}

/** With "for x in list if test" the list is inside a SelectExpression. */
function loopedOver({ iterable }: Loop): unknown {
  return iterable.type === 'SelectExpression' ? iterable.lhs : iterable;
}
