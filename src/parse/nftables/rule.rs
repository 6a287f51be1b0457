//! A rule: its expressions, run for what they ask and what they do.

use std::borrow::Cow;

use super::super::ruleset::{ChainId, Family};
use super::expression::Program;
use super::message::{Attributes, Message, text};
use super::object::NFT_MSG_NEWRULE;
use super::{Contents, Fault, family_of};

const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;

/// A rule as it comes.
#[derive(Debug, Clone)]
pub struct RuleMessage<'a> {
    family: Option<Family>,
    /// The chain that it is of.
    pub chain: Cow<'a, str>,
    expressions: &'a [u8],
}

impl<'a> RuleMessage<'a> {
    /// `None` of other messages.
    pub fn read(message: &Message<'a>) -> Result<Option<RuleMessage<'a>>, Fault> {
        if message.kind != NFT_MSG_NEWRULE {
            return Ok(None);
        }
        let mut rule = RuleMessage { family: family_of(message.family()), chain: "".into(), expressions: &[] };
        for attribute in message.attributes() {
            match attribute? {
                (NFTA_RULE_CHAIN, chain) => rule.chain = text(chain),
                (NFTA_RULE_EXPRESSIONS, expressions) => rule.expressions = expressions,
                _ => {}
            }
        }
        Ok(Some(rule))
    }

    /// Adds it at the end of a chain.
    pub fn push(&self, chain: ChainId, contents: &mut Contents) -> Result<(), Fault> {
        let mut program = Program::new(self.family);
        for expression in Attributes(self.expressions) {
            program.add(expression?.1)?;
        }
        let action = program.action.action(contents).ok_or(Fault::TOO_MANY)?;
        contents.rules.push(chain, action, (program.is_unconditional(), program.protocol()), program.destination());
        Ok(())
    }
}
