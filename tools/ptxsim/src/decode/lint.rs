//! Static findings.
use crate::ir::*;
use crate::parse::*;

/// Every wgmma needs a `wgmma.fence` after the last ordinary write to its registers (looked for in straight-line code).
pub fn wgmma_fences(k: &Kernel, code: &Code) -> Vec<(u32, String)> {
    let targets: std::collections::HashSet<usize> = k.labels.iter().copied().collect();
    let mut out = Vec::new();
    for (i, inst) in code.insts.iter().enumerate() {
        let Op::WgMma(s) = &inst.op else { continue };
        let mut regs: std::collections::HashSet<S> = s.d.iter().copied().collect();
        if let WgA::Regs(r) = &s.a {
            regs.extend(r);
        }
        let mut j = i;
        let mut fenced = false;
        while j > 0 && !targets.contains(&j) {
            j -= 1;
            match &code.insts[j].op {
                Op::WgFence => {
                    fenced = true;
                    break;
                }
                Op::WgMma(o) => {
                    // accumulators may be chained between wgmmas of one shape only
                    if (o.n != s.n || o.ty != s.ty) && o.d.iter().any(|r| regs.contains(r)) {
                        out.push((
                            inst.line,
                            format!("accumulator shared with the wgmma of another shape at line {} without a wgmma.fence", code.insts[j].line),
                        ));
                        fenced = true;
                        break;
                    }
                }
                _ => {
                    let (d, u) = (code.insts[j].defs, code.insts[j].uses);
                    let touched = code.defs[d.0 as usize..d.1 as usize]
                        .iter()
                        .chain(&code.uses[u.0 as usize..u.1 as usize]);
                    if let Some(r) = touched.into_iter().find(|r| regs.contains(r)) {
                        let n = &code.reg_names[*r as usize];
                        out.push((
                            inst.line,
                            format!(
                                "{n} was accessed at line {} without a wgmma.fence since",
                                code.insts[j].line
                            ),
                        ));
                        fenced = true;
                        break;
                    }
                }
            }
        }
        if !fenced {
            out.push((
                inst.line,
                "no wgmma.fence before this wgmma in its block".into(),
            ));
        }
    }
    out
}
