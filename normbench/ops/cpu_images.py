"""One image after another through several kernels, while its numbers are still in the cache."""
# mypy: ignore-errors

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from normbench.ops.cpu_numba import job_type, kernel, next_of, stack_row

# A job: counter, number of images and of calls; then for each call the address of a kernel, how many
# numbers its own job has (LANES at most), and these, each with its step from one image to the next.
IMAGES, CALLS, FIRST = 1, 2, 3

longs = stack_row(types.int64, ir.IntType(64))


@intrinsic
def call(typing, address, job):
    """Calls the kernel at an address."""

    def code(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64).as_pointer()])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, job_type), code


@kernel
def each_image(job):
    own = longs()
    image = next_of(job)
    while image < job[IMAGES]:
        at = FIRST
        for _ in range(job[CALLS]):
            length = job[at + 1]
            for k in range(length):
                own[k] = job[at + 2 + 2 * k] + image * job[at + 3 + 2 * k]
            call(job[at], own)
            at += 2 + 2 * length
        image = next_of(job)
