//! Forward and backward on the device against the reference, over masks, groups, head dimensions, λ, norms, types and
//! lengths.

mod common;

use common::cases::Case;
use common::device::{Layout, checks, client, run, supports};
use common::tolerance::assert_all;
use diff_flash_attn::{DType, Mask, Norm, Problem, Tuning};

#[test]
fn smoke() {
    let client = client();
    for maps in [2, 1] {
        for mask in [Mask::None, Mask::Causal] {
            let norm = Some(Norm {
                eps: 1e-5,
                lambda_init: 0.2,
            });
            let problem = Problem {
                batch: 2,
                query_len: 65,
                key_len: 64,
                heads: 4,
                kv_heads: 2,
                head_dim: 16,
                value_dim: 32,
                maps,
                shared_key: false,
                mask,
                scale: 0.25,
                dtype: DType::F32,
                norm,
            };
            let case = Case::random(problem, &[4], true, 7);
            let ours = run(&client, &case, Layout::Interleaved, Tuning::default());
            assert_all(&format!("{maps} {mask:?}"), &checks(&case, &ours));
        }
    }
    assert!(supports(&client, DType::F32));
}
