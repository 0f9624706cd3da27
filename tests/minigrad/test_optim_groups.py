"""Parameter groups: what an optimizer takes, what it refuses, and settings that change while it runs."""

import numpy as np
import pytest
from small_net import in_arena

import minigrad as mg
from minigrad import nn, optim, runtime

MAKERS = {"SGD": optim.SGD, "Adam": optim.Adam, "AdamW": optim.AdamW, "in an arena": in_arena}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def parameter(value=1.0):
    p = nn.Parameter(np.full(3, value))
    p.grad = np.ones(3)
    return p


@every_optimizer
def test_each_group_has_settings_of_its_own_which_can_be_changed(make):
    p, q, r = parameter(), parameter(), parameter()
    optimizer = make([{"params": [p]}, {"params": [q], "lr": 0.5}, {"params": r, "lr": 0.0}], lr=0.25, weight_decay=0.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5, 0.0]
    optimizer.step()
    np.testing.assert_allclose([p.data[0], q.data[0], r.data[0]], [0.75, 0.5, 1.0])
    optimizer.param_groups[2]["lr"] = 0.125
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    np.testing.assert_allclose([p.data[0], r.data[0]], [0.75, 0.875])


@pytest.mark.parametrize("make", [optim.Adam, in_arena])
def test_betas_in_a_list_can_be_changed_in_place(make):
    results = []
    for change in (lambda group: group["betas"].__setitem__(0, 0.0), lambda group: group.update(betas=(0.0, 0.999))):
        p = parameter()
        optimizer = make([p], lr=0.1, betas=[0.9, 0.999])
        optimizer.step()
        change(optimizer.param_groups[0])
        p.grad = -np.ones(3)
        optimizer.step()
        results.append(p.data.copy())
    np.testing.assert_array_equal(*results)
    assert (results[0] > 0.95).all()


def test_weight_decay_can_be_changed_in_an_arena():
    p, q = parameter(), parameter()
    optimizer = in_arena([{"params": [p]}, {"params": [q]}], lr=0.1, weight_decay=0.0)
    p.grad, q.grad = np.zeros(3), np.zeros(3)
    optimizer.step()
    optimizer.param_groups[1]["weight_decay"] = 0.5
    optimizer.step()
    np.testing.assert_allclose([p.data[0], q.data[0]], [1.0, 0.95])


@every_optimizer
def test_a_group_lists_its_parameters_and_all_settings(make):
    p, q = parameter(), parameter()
    optimizer = make([{"params": [("first", p), ("second", q)], "name": "both"}])
    (group,) = optimizer.param_groups
    assert group["params"][0] is p and group["params"][1] is q
    assert (group["param_names"], group["name"]) == (["first", "second"], "both")
    assert set(group) == {"params", "param_names", "name", *optimizer.defaults}
    assert repr(optimizer).splitlines()[1] == "Parameter Group 0" and "    lr: 0.001" in repr(optimizer)


@every_optimizer
def test_a_group_can_be_added_later(make):
    p, q = parameter(), parameter()
    optimizer = make([p], lr=0.1, weight_decay=0.0)
    optimizer.step()
    with pytest.raises(ValueError, match=r"0\.0 stands twice"):
        optimizer.add_param_group({"params": [p]})
    optimizer.add_param_group({"params": [q], "lr": 0.5})
    optimizer.step()
    assert len(optimizer.param_groups) == 2
    np.testing.assert_allclose([p.data[0], q.data[0]], [0.8, 0.5])
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    np.testing.assert_allclose([p.data[0], q.data[0]], [0.7, 0.0], atol=1e-7)


REFUSED = {
    "a tensor": (lambda p: p, TypeError, r"params is a Parameter; .*give \[parameter\]"),
    "a module": (lambda p: nn.Linear(2, 2), TypeError, r"params is a Linear; .*give model\.parameters\(\)"),
    "a container": (lambda p: nn.Sequential(nn.Linear(2, 2)), TypeError, r"params is a Sequential"),
    "a string": (lambda p: "weights", TypeError, "params is a str; expected Parameters"),
    "a dict": (lambda p: {"params": [p]}, TypeError, "params is a dict; .*a list of groups"),
    "a set": (lambda p: {p}, TypeError, "order changes from run to run"),
    "nothing": (lambda p: None, TypeError, "params is a NoneType"),
    "an empty list": (lambda p: [], ValueError, "at least one parameter"),
    "empty groups": (lambda p: [{"params": []}], ValueError, "at least one parameter"),
    "strings": (lambda p: ["weights"], TypeError, r"parameter 0\.0 is 'weights'"),
    "arrays": (lambda p: [p.data], TypeError, r"parameter 0\.0 is array"),
    "no leaf": (lambda p: [p * 2.0], ValueError, r"parameter 0\.0 is no leaf: mul made it"),
    "twice": (lambda p: [p, p], ValueError, r"0\.0 stands twice"),
    "in two groups": (lambda p: [{"params": [p]}, {"params": p}], ValueError, r"0\.0 stands twice"),
    "half of them named": (lambda p: [("a", p), parameter()], ValueError, "others have none"),
    "group and parameter": (lambda p: [{"params": [p]}, parameter()], TypeError, "a parameter group is Tensor"),
    "parameter and group": (lambda p: [p, {"params": [parameter()]}], TypeError, r"parameter 0\.1 is {'params'"),
    "no params": (lambda p: [{"param": [p]}], ValueError, "the keys param; 'params' is missing"),
    "params is a string": (lambda p: [{"params": "weights"}], TypeError, "'params' of a parameter group is 'weights'"),
    "params is a set": (lambda p: [{"params": {p}}], TypeError, "order changes from run to run"),
    "a misspelling": (lambda p: [{"params": [p], "weigth_decay": 0}], ValueError, "; did you mean 'weight_decay'"),
    "an unknown key": (lambda p: [{"params": [p], "colour": 0}], ValueError, "unknown key 'colour'; there are lr, "),
    "both spellings": (lambda p: [{"params": [p], "lr": 0.1, "learning_rate": 0.1}], ValueError, "both lr and"),
    "a bad setting": (lambda p: [{"params": [p], "lr": -0.1}], ValueError, "lr is -0.1; expected"),
    "a setting of text": (lambda p: [{"params": [p], "lr": "0.1"}], TypeError, "lr is '0.1'; expected a number"),
}  # fmt: skip


@every_optimizer
@pytest.mark.parametrize(("params", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_list_of_parameters_is_refused(make, params, error, message):
    if make is in_arena and not isinstance(params(parameter()), list):
        make = optim.AdamW  # `in_arena` makes a list of whatever it gets
    with pytest.raises(error, match=message) as raised:
        make(params(parameter()))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "setting", "error", "message"),
    [
        (optim.SGD, {"momentun": 0.9}, TypeError, "SGD got an unexpected .*'momentun'; did you mean 'momentum'"),
        (optim.AdamW, {"wd": 0.9}, TypeError, "AdamW got an unexpected keyword argument 'wd'"),
        (optim.Adam, {"learning_rat": 0.9}, TypeError, "Adam got .*'learning_rat'; did you mean 'learning_rate'"),
        (optim.Adam, {"lr": 0.1, "learning_rate": 0.1}, TypeError, "give one of them"),
        (optim.SGD, {"lr": np.nan}, ValueError, "lr is nan"),
        (optim.SGD, {"lr": None}, TypeError, "lr is None; expected a number"),
        (optim.SGD, {"momentum": -0.1}, ValueError, "momentum is -0.1"),
        (optim.SGD, {"nesterov": True}, ValueError, "nesterov needs a momentum"),
        (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "no dampening"),
        (optim.SGD, {"nesterov": "yes"}, TypeError, "nesterov is 'yes'; expected True or False"),
        (optim.Adam, {"betas": 0.9}, TypeError, "betas is 0.9; expected a pair"),
        (optim.Adam, {"betas": (0.9, -0.1)}, ValueError, "both must lie in"),
        (optim.Adam, {"amsgrad": 2}, TypeError, "amsgrad is 2; expected True or False"),
        (optim.Adam, {"capturable": True}, TypeError, "capturable is True; only PyTorch's own optimizers have that"),
        (optim.SGD, {"differentiable": True}, TypeError, "differentiable is True"),
        (optim.AdamW, {"foreach": "yes"}, TypeError, "foreach is 'yes'; expected True, False or None"),
    ],
)
def test_a_setting_that_does_not_exist_or_cannot_be_is_refused(make, setting, error, message):
    with pytest.raises(error, match=message):
        make([parameter()], **setting)


@every_optimizer
def test_how_pytorch_would_go_through_the_parameters_changes_nothing(make):
    """`foreach` and `fused` in code that was written for PyTorch."""
    results = []
    for setting in (
        {}, {"foreach": True}, {"foreach": False, "fused": None}, {"fused": True}, {"foreach": None, "fused": False},
        {"capturable": False, "differentiable": False},
    ):  # fmt: skip
        p, q = parameter(), parameter()
        make([{"params": [p]}, {"params": [q], **setting}], lr=0.1, **setting).step()
        results.append([p.data, q.data])
    assert all(np.array_equal(result, results[0]) for result in results)


@every_optimizer
@pytest.mark.parametrize("change", ["append", "replace", "remove"])
def test_a_changed_list_of_parameters_would_leave_some_unlearned_and_is_refused(make, change):
    """`optimizer.param_groups[0]["params"].append(p)`: what Adam keeps of each parameter was made before."""
    optimizer = make([parameter(), parameter()], lr=0.1)
    params = optimizer.param_groups[0]["params"]
    {"append": lambda: params.append(parameter()), "remove": params.pop,
     "replace": lambda: params.__setitem__(0, parameter())}[change]()  # fmt: skip
    with pytest.raises(ValueError, match=r"the list of parameters of group 0 has been changed; .*add_param_group"):
        optimizer.step()


@every_optimizer
def test_a_state_that_is_no_dict_is_refused(make):
    with pytest.raises(TypeError, match=r"an optimizer's state is \[1\]; expected a dict"):
        make([parameter()]).load_state_dict([1])


@every_optimizer
def test_the_older_spelling_of_the_learning_rate_is_taken(make):
    p, q = parameter(), parameter()
    optimizer = make([{"params": [p], "learning_rate": 0.5}, {"params": [q]}], learning_rate=0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
    with pytest.raises(ValueError, match="the groups have 2 learning rates"):
        optimizer.learning_rate  # noqa: B018
    optimizer.learning_rate = 0.125
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125] and optimizer.learning_rate == 0.125


@every_optimizer
def test_a_closure_computes_the_gradients_and_its_loss_is_returned(make):
    p = nn.Parameter(np.full(3, 2.0))
    optimizer = make([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 12.0 and (p.data < 2.0).all()
    with pytest.raises(TypeError, match=r"closure is 1\.0; expected a function"):
        optimizer.step(1.0)
    assert optimizer.step() is None
    before = p.data.copy()
    with mg.no_grad():  # a whole training step may stand in it, as in PyTorch
        optimizer.step(closure)
        assert not (p * 2.0).requires_grad
    assert (p.data < before).all()


@every_optimizer
def test_zero_grad_forgets_or_fills_with_zeros(make):
    p, q = parameter(), parameter()
    q.grad = None
    kept = p.grad
    optimizer = make([p, q])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0] * 3 and q.grad is None and kept.tolist() == [1.0] * 3
    optimizer.step()
    optimizer.zero_grad()
    assert p.grad is None


@every_optimizer
def test_a_state_brings_the_settings_and_an_older_one_leaves_them(make):
    p, q = parameter(), parameter()
    one, other = make([("p", p)], lr=0.5), make([("p", q)], lr=0.25)
    one.param_groups[0]["lr"] = 0.125
    state = one.state_dict()
    other.load_state_dict({key: value for key, value in state.items() if key != "param_groups"})
    assert other.param_groups[0]["lr"] == 0.25
    other.load_state_dict(state)
    assert other.param_groups[0]["lr"] == 0.125 and other.param_groups[0]["params"][0] is q
    other.step()
    assert "params" not in state["param_groups"][0]


@every_optimizer
def test_settings_that_do_not_fit_are_refused_and_change_nothing(make):
    optimizer = make([("p", parameter())], lr=0.5)
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    for groups, message in (
        ([], "0 parameter groups; expected 1"),
        ([group, group], "2 parameter groups"),
        ("all", "'param_groups' is 'all'"),
        ([{**group, "param_names": ["q"]}], "does not fit these parameters: p, q"),
        ([{**group, "lr": -1.0}], "lr is -1.0"),
        ([{key: value for key, value in group.items() if key != "weight_decay"}], "lacks weight_decay"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict({**state, "param_groups": groups})
    np.testing.assert_equal(optimizer.state_dict(), state)


def test_a_learned_optimizer_of_ones_own_needs_only_a_step():
    class Signs(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr, "rho": 0.5})

        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    p.data -= group["lr"] * group["rho"] * np.sign(p.grad)

    p = parameter()
    optimizer = Signs([{"params": [p], "rho": 1.0}])
    optimizer.step()
    np.testing.assert_allclose(p.data, 0.9)
    optimizer.load_state_dict(optimizer.state_dict())
    with pytest.raises(NotImplementedError, match="Optimizer defines no step"):
        optim.Optimizer([p], {}).step()


@every_optimizer
def test_a_gradient_that_is_a_tensor_is_used(make):
    """A PyTorch user sets `p.grad = tensor(...)`."""
    p, q = parameter(), parameter()
    p.grad = mg.tensor(np.ones(3))
    for each in (p, q):
        make([each], lr=0.1).step()
    np.testing.assert_array_equal(p.data, q.data)


@pytest.mark.parametrize("grad", ["steep", [1.0, 1.0, 1.0], 1.0])
def test_a_gradient_that_is_no_array_is_refused(grad):
    with pytest.raises(TypeError, match=r"the gradient is a .*; expected an array, a tensor or None"):
        parameter().grad = grad


@pytest.mark.compiler
def test_every_setting_and_clipping_works_on_a_device():
    placed = runtime.asarray("cuda-sim")
    settings = {
        optim.SGD: {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        optim.Adam: {"weight_decay": 0.1, "amsgrad": True, "maximize": True},
        optim.AdamW: {},
    }
    for make, setting in settings.items():
        params = [nn.Parameter(array) for array in (np.ones(3, np.float32), placed(np.ones(3, np.float32)))]
        for p in params:
            optimizer = make([p], lr=0.1, **setting)
            for norm_type in (2.0, 1.0, "inf"):
                p.grad = p.data * 0 + np.asarray([3.0, -2.0, 1.0], np.float32, like=p.data)
                optim.clip_grad_norm_(p, 2.0, norm_type)
                optim.clip_grad_value_(p, 1.0)
                optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
            optimizer.zero_grad(set_to_none=False)
            optimizer.step()
        np.testing.assert_allclose(params[1].data.get(), params[0].data, rtol=1e-6)
