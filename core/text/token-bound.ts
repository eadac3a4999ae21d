/**
 * Token bound: the most tokens that a text can become, from its UTF-8 bytes alone, read off a tokenizer.json. The ledger reserves by it.
 *
 * A model splits a pre-token into pieces of at least one character, so tokens ≤ weight, where a character weighs one token if it has a
 * piece of its own (or an unknown token stands for it), and its UTF-8 bytes where byte_fallback spells it out. Weight never exceeds bytes,
 * so without a normalizer the bound is 1 a byte. Each step below then says by how much it can raise bytes and weight:
 * - NFC and NFD: at most 3 times the bytes (U+1D160, U+0390); NFKC, NFKD and Precompiled: 11 times (U+FDFA). Unicode's own table,
 *   unicode.org/faq/normalization.html. Composition only shortens. Lowercase: 3 bytes for 2 (U+0130, U+023A).
 * - Replace: weight of the content over weight of the pattern, at every occurrence; a regular expression may match nothing at all, so
 *   there the content counts at every character.
 * - Prepend and prefix spaces: once a section of text between added tokens; or, where the text was split before, once a pre-token, of
 *   which there are at most as many as the weight.
 * - An added token costs one token and opens a new section with its prefix: (1 + prefix) over its bytes.
 * - The post-processor's special tokens: once a text.
 */
import { z } from 'zod';
import { NibbleError } from '../errors.ts';

/** tokens ≤ perByte · (UTF-8 bytes of the text) + overhead. */
export interface TokenBound {
  perByte: number;
  overhead: number;
}

const Pattern = z.union([z.object({ String: z.string() }), z.object({ Regex: z.string() })]);
const Step = z.looseObject({ type: z.string() });
type Step = z.infer<typeof Step>;
const Json = z.looseObject({
  normalizer: Step.nullish(),
  pre_tokenizer: Step.nullish(),
  post_processor: Step.nullish(),
  added_tokens: z
    .array(z.looseObject({ content: z.string(), normalized: z.boolean().nullish(), special: z.boolean().nullish() }))
    .default([]),
  model: z.looseObject({
    vocab: z.union([z.array(z.unknown()), z.custom<object>(isObject)]),
    byte_fallback: z.boolean().nullish(),
    end_of_word_suffix: z.string().nullish(),
  }),
});

/** Growth so far: factors on bytes and weight, and what each section of the text adds once. */
interface Growth {
  bytes: number;
  weight: number;
  prefix: number;
}

/** Throws `model_unsupported` for a step whose growth is not known here, `file_invalid` for a file that is none. */
export function maxTokensPerByte(tokenizerJson: unknown): TokenBound {
  const parsed = Json.safeParse(tokenizerJson);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new NibbleError({
      code: 'file_invalid',
      file: 'tokenizer.json',
      tensor: null,
      rule: `${issue?.path.join('.')}: ${issue?.message}`,
    });
  }
  const {
    normalizer,
    pre_tokenizer: preTokenizer,
    post_processor: postProcessor,
    added_tokens: added,
    model,
  } = parsed.data;
  // A character with a suffix spelled out in bytes would weigh the suffix too; no published tokenizer has both.
  if (model.byte_fallback && model.end_of_word_suffix)
    throw unsupported('end_of_word_suffix', { type: 'byte_fallback' });
  const weigh = weigher(model.vocab, model.byte_fallback === true);

  const normalized = stepsOf(normalizer, 'normalizers').reduce((growth, step) => normalize(growth, step, weigh), {
    bytes: 1,
    weight: 1,
    prefix: 0,
  });
  const split = preTokenize(normalized, stepsOf(preTokenizer, 'pretokenizers'), weigh);
  /** Tokens that a section has beyond its weight: the normalizer's prefix, and the pre-tokenizer's. */
  const sectionPrefix = split.prefix;
  const subsectionPrefix = split.prefix - normalized.prefix;
  const perAdded = added.map(({ content, normalized: isNormalized, special }) => {
    // The library looks for these after normalizing, when it is unknown which bytes of the text made them: a weight of at least 1.
    const isAfter = (isNormalized ?? !special) && normalizer != null;
    return isAfter ? split.weight * (1 + subsectionPrefix) : (1 + sectionPrefix) / Math.max(1, utf8Length(content));
  });
  return {
    perByte: perAdded.reduce((most, cost) => Math.max(most, cost), split.weight),
    overhead: sectionPrefix + stepsOf(postProcessor, 'processors').reduce((sum, step) => sum + specialsOf(step), 0),
  };
}

type Weigh = (text: string) => number;

function normalize(growth: Growth, step: Step, weigh: Weigh): Growth {
  const times = (factor: number): Growth => ({
    bytes: growth.bytes * factor,
    // A changed character may weigh all of its bytes; an unchanged one weighs what it did.
    weight: Math.max(growth.weight, growth.bytes * factor),
    // A prefix character of weight 1 may have 4 bytes.
    prefix: growth.prefix * factor * 4,
  });
  switch (step.type) {
    case 'NFC':
    case 'NFD':
      return times(3);
    case 'NFKC':
    case 'NFKD':
    case 'Precompiled':
      return times(11);
    case 'Lowercase':
      return times(1.5);
    case 'Strip':
    case 'StripAccents':
      return growth;
    case 'Prepend':
      return { ...growth, prefix: growth.prefix + weigh(textIn(step, 'prepend')) };
    case 'Replace':
      return replace(growth, step, weigh);
    default:
      throw unsupported('normalizer', step);
  }
}

function replace(growth: Growth, step: Step, weigh: Weigh): Growth {
  const pattern = Pattern.safeParse(step.pattern);
  if (!pattern.success) throw unsupported('Replace', step);
  const content = textIn(step, 'content');
  // JavaScript would put parts of the text here.
  if (/\$[$&`'<\d]/.test(content)) throw unsupported('Replace', step);
  const isLiteral = 'String' in pattern.data && pattern.data.String !== '';
  const from = 'String' in pattern.data ? pattern.data.String : '';
  const factor = (measure: Weigh) => (isLiteral ? Math.max(1, measure(content) / measure(from)) : 1 + measure(content));
  const weight = factor(weigh);
  return {
    bytes: growth.bytes * factor(utf8Length),
    weight: growth.weight * weight,
    // A regular expression may match once more, at the very end.
    prefix: growth.prefix * weight + (isLiteral ? 0 : weigh(content)),
  };
}

function preTokenize(growth: Growth, steps: Step[], weigh: Weigh): Growth {
  let { bytes, weight, prefix } = growth;
  let isSplit = false;
  let isBytes = false;
  const addPrefix = (tokens: number) => {
    if (isSplit) weight *= 1 + tokens;
    else prefix += tokens;
  };
  for (const step of steps) {
    switch (step.type) {
      case 'ByteLevel':
        // From here a byte is a character of GPT-2's alphabet, with a piece of its own; read as bytes again, it is two.
        weight = isBytes ? weight * 2 : bytes;
        prefix *= 4;
        addPrefix(step.add_prefix_space === true ? 1 : 0);
        isBytes = true;
        isSplit ||= step.use_regex !== false;
        break;
      case 'Metaspace': {
        const mark = weigh([step.str_rep, step.replacement].find((text) => typeof text === 'string') ?? '▁');
        weight *= mark;
        prefix *= mark;
        addPrefix(step.prepend_scheme === 'never' ? 0 : mark);
        break;
      }
      case 'Replace':
        ({ bytes, weight, prefix } = replace({ bytes, weight, prefix }, step, weigh));
        break;
      case 'Split':
        // A capturing group's text comes out a second time when JavaScript splits by it.
        weight *= 1 + capturingGroups(step);
        isSplit = true;
        break;
      case 'Punctuation':
      case 'Digits':
      case 'Whitespace':
      case 'WhitespaceSplit':
      case 'BertPreTokenizer':
      case 'FixedLength':
        isSplit = true;
        break;
      default:
        throw unsupported('pre_tokenizer', step);
    }
  }
  return { bytes, weight, prefix };
}

/** Only where a regular expression's matches are removed; otherwise the library takes whole matches. */
function capturingGroups(step: Step): number {
  const pattern = Pattern.safeParse(step.pattern);
  if (String(step.behavior).toLowerCase() !== 'removed' || !pattern.success || !('Regex' in pattern.data)) return 0;
  return pattern.data.Regex.split('(').length - 1;
}

function specialsOf(step: Step): number {
  switch (step.type) {
    case 'ByteLevel':
      return 0;
    case 'BertProcessing':
    case 'RobertaProcessing':
      return 2;
    case 'TemplateProcessing': {
      const single = z.array(z.looseObject({ SpecialToken: z.unknown().optional() })).safeParse(step.single);
      if (!single.success) throw unsupported('post_processor', step);
      return single.data.filter((part) => part.SpecialToken !== undefined).length;
    }
    default:
      throw unsupported('post_processor', step);
  }
}

/** Tokens that a text's characters can become, each on its own. */
function weigher(vocab: object, byteFallback: boolean): Weigh {
  const pieces = new Set(Array.isArray(vocab) ? vocab.map((pair) => pair?.[0]) : Object.keys(vocab));
  const weight = (char: string) => (!byteFallback || pieces.has(char) ? 1 : utf8Length(char));
  return (text) => Array.from(text).reduce((sum, char) => sum + weight(char), 0);
}

function stepsOf(step: Step | null | undefined, list: string): Step[] {
  if (step === null || step === undefined) return [];
  if (step.type !== 'Sequence') return [step];
  const inner = z.array(Step).safeParse(step[list]);
  if (!inner.success) throw unsupported(list, step);
  return inner.data.flatMap((one) => stepsOf(one, list));
}

function textIn(step: Step, field: string): string {
  const value = step[field];
  if (typeof value !== 'string') throw unsupported(step.type, step);
  return value;
}

function unsupported(option: string, step: Step): NibbleError {
  const reason = `the growth of "${step.type.slice(0, 100)}" is not known`;
  return new NibbleError({ code: 'model_unsupported', file: 'tokenizer.json', option, reason });
}

function utf8Length(text: string): number {
  return new TextEncoder().encode(text).length;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
