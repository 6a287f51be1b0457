//! What becomes of a packet, of a rule or of an element of a map (`nft_verdict_dump`).

use super::super::ruleset::{Action, Ruleset};
use super::Fault;
use super::message::{Attributes, be32, text};

const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// `NF_DROP`, `NF_ACCEPT`, `enum nft_verdicts`.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const CONTINUE: i32 = -1;
const BREAK: i32 = -2;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// A verdict, of a rule or of an element of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    Plain(Action),
    Jump(&'a [u8]),
    Goto(&'a [u8]),
}

impl<'a> Verdict<'a> {
    /// `None` where it decides nothing.
    pub fn read(bytes: &'a [u8]) -> Result<Option<Verdict<'a>>, Fault> {
        let (mut code, mut chain) = (None, None);
        for attribute in Attributes(bytes) {
            match attribute? {
                (NFTA_VERDICT_CODE, value) => code = Some(be32(value)?.cast_signed()),
                (NFTA_VERDICT_CHAIN, name) => chain = Some(name),
                _ => {}
            }
        }
        let chain = chain.ok_or(Fault("a jump to nowhere"));
        Ok(Some(match code.ok_or(Fault("a verdict without a code"))? {
            CONTINUE | BREAK => return Ok(None),
            DROP => Verdict::Plain(Action::Drop),
            ACCEPT => Verdict::Plain(Action::Accept),
            RETURN => Verdict::Plain(Action::Return),
            JUMP => Verdict::Jump(chain?),
            GOTO => Verdict::Goto(chain?),
            // A program gets the packet, or it is taken away (`NF_QUEUE`, `NF_STOLEN`).
            _ => Verdict::Plain(Action::Other),
        }))
    }

    /// `None` where there are too many chains.
    pub fn action(self, ruleset: &mut Ruleset) -> Option<Action> {
        Some(match self {
            Verdict::Plain(action) => action,
            Verdict::Jump(chain) => Action::Jump(ruleset.chain(&text(chain))?),
            Verdict::Goto(chain) => Action::Goto(ruleset.chain(&text(chain))?),
        })
    }
}
