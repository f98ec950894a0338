"""Wrong values in train.yaml are one line that names the key and what it may be."""

import pytest
from samples import config

from fer.errors import ConfigError
from fer.values import check_values


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=-1", "seed=-1 must be a whole number from 0"),
        ("seed=abc", "seed=abc must be"),
        ("seed=true", "seed=True must be"),
        ("threads=0", "threads=0 must be a whole number from 1 to 4096, or null"),
        ("progressive=null", "progressive=null must be a list of"),
        ("progressive=[0.5,0.67]", "progressive=[0.5, 0.67] must be a list of"),
        ("mixup=null", "mixup=null must be a number from 0"),
        ("cutmix=-1", "cutmix=-1 must be"),
        ("label_smoothing=2", "label_smoothing=2 must be a number from 0 to 1"),
        ("label_smoothing=nan", "label_smoothing=nan must be"),
        ("teacher=a.ts", "teacher=a.ts must be a list of files, [a.ts,b.ts]"),
        ("optimizer.lr=-1", "optimizer.lr=-1 must be a number from 0"),
        ("optimizer.lr=fast", "optimizer.lr=fast must be"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0 must be a whole number from 1, or -1 where"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5 must be"),
        ("evaluate.test=maybe", "evaluate.test=maybe must be true or false"),
        ("export.crop_margin=inf", "export.crop_margin=inf must be"),
        ("input_size=2", "input_size=2 must be"),
        ("threads=1e20", "threads=1e+20 must be a whole number from 1 to 4096, or null"),
        ("threads=100000000000000000000", "threads=100000000000000000000 must be"),
        ("init_from=5", "init_from=5 must be a file, or null"),
        ("init_from=[1]", "init_from=[1] must be a file, or null"),
        ("teacher_weight=x", "teacher_weight=x must be a number from 0 to 1"),
        ("checkpoint.every_n_steps=0", "checkpoint.every_n_steps=0 must be"),
    ],
)
def test_a_wrong_value_is_named(override, said):
    with pytest.raises(ConfigError) as caught:
        check_values(config(override))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("overrides", [(), ("scheduler=cosine", "optimizer=adamw", "progressive=[]", "threads=2")])
def test_what_train_takes_passes(overrides):
    check_values(config(*overrides))
