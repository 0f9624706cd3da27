"""Which instructions of a kernel are inside a loop: natural loops of the control flow graph.

An edge tail -> head closes a loop if every path from the entry to the tail contains the head: the head dominates the
tail. The loop is the head and all instructions that reach the tail without passing the head. A simpler test, "a branch
backwards", is wrong: the compiler moves rare code to the end of a kernel, from where it jumps back.
Dominators: Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", 2001.
"""

import re

_ENDS = ("EXIT", "RET", "BRX", "JMX", "JMP", "KILL", "BPT")  # control does not go on to the next instruction


def in_loops(instructions):
    """The indices of the instructions inside of loops, as a set."""
    successors = _successors(instructions)
    order = _reverse_postorder(successors)
    rank = {i: position for position, i in enumerate(order)}
    predecessors = {i: [] for i in order}
    for i in order:
        for j in successors[i]:
            predecessors[j].append(i)
    parent = _dominators(order, rank, predecessors)
    found = set()
    for tail in order:
        for head in successors[tail]:
            if rank[head] <= rank[tail] and _dominates(head, tail, parent, rank):
                found |= _loop(head, tail, predecessors)
    return found


def _successors(instructions):
    """For each instruction the indices of those that can follow it."""
    at = {label: i for i, instruction in enumerate(instructions) for label in instruction.labels}
    successors = []
    for i, instruction in enumerate(instructions):
        name, text = instruction.opcode.split(".")[0], instruction.text
        target = re.search(r"`\((\.L_\w+)\)", text) if name == "BRA" else None
        following = [at[target[1]]] if target and target[1] in at else []
        conditional = text.startswith("@") or (name == "BRA" and ", `(" in text)  # BRA.DIV UR4, `(.L_x_1)
        if i + 1 < len(instructions) and (conditional or name not in ("BRA", *_ENDS)):
            following.append(i + 1)
        successors.append(following)
    return successors


def _reverse_postorder(successors):
    """The instructions reachable from the entry, each before its successors except along loops."""
    order, seen = [], {0}
    stack = [(0, iter(successors[0]))] if successors else []
    while stack:
        i, following = stack[-1]
        j = next((j for j in following if j not in seen), None)
        if j is None:
            order.append(i)
            stack.pop()
        else:
            seen.add(j)
            stack.append((j, iter(successors[j])))
    return order[::-1]


def _dominators(order, rank, predecessors):
    """{instruction: its immediate dominator}; the entry is its own."""
    parent = {order[0]: order[0]} if order else {}
    changed = True
    while changed:
        changed = False
        for i in order[1:]:
            known = [j for j in predecessors[i] if j in parent]
            nearest = known[0]
            for j in known[1:]:
                while nearest != j:  # up the tree until both meet
                    if rank[nearest] > rank[j]:
                        nearest = parent[nearest]
                    else:
                        j = parent[j]
            if parent.get(i) != nearest:
                parent[i], changed = nearest, True
    return parent


def _dominates(head, tail, parent, rank):
    while rank[tail] > rank[head]:
        tail = parent[tail]
    return tail == head


def _loop(head, tail, predecessors):
    inside, waiting = {head}, [tail]
    while waiting:
        i = waiting.pop()
        if i not in inside:
            inside.add(i)
            waiting += predecessors[i]
    return inside
