"""Where the domains of Meta-Dataset that no function reads by name come from."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """How to get a domain, and how to read it.

    Attributes:
        what: what it holds.
        files: the files to download.
        size: the size of the download.
        address: where the files are.
        read: what to do with them.
    """

    what: str
    files: str
    size: str
    address: str
    read: str

    def __str__(self) -> str:
        return (
            f"Download {self.files} ({self.size}) from {self.address}, under the "
            f"licence that is named there. {self.read}"
        )


FOLDERS = "read them with `from_folder(path, size=(84, 84), channels=3, lazy=True)`."
SOURCES = {
    "ilsvrc_2012": Source(
        "1,000 classes of ImageNet",
        "ILSVRC2012_img_train.tar",
        "148 GB",
        "https://image-net.org/download.php, with an account",
        f"Unpack the archive of each class to a folder of its own, and {FOLDERS} "
        "Smaller splits of it: `mini_imagenet` and `tiered_imagenet`.",
    ),
    "omniglot": Source(
        "1,623 characters",
        "images_background.zip and images_evaluation.zip",
        "16 MB",
        "https://github.com/brendenlake/omniglot/tree/master/python",
        'Unzip both into a folder, and read it with `omniglot("FOLDER")`; '
        "`omniglot(download=True)` does all of this through TFDS.",
    ),
    "aircraft": Source(
        "100 variants of aircraft",
        "fgvc-aircraft-2013b.tar.gz",
        "2.75 GB",
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        "Unpack it, put the images into a folder for each variant, which "
        f"data/images_variant_trainval.txt and .._test.txt name, and {FOLDERS}",
    ),
    "quickdraw": Source(
        "345 kinds of drawings, 50 million",
        "345 files of bitmaps",
        "40 GB",
        "https://github.com/googlecreativelab/quickdraw-dataset",
        '`from_tfds("quickdraw_bitmap", split="train", download=True)` does so, and '
        'needs memory for what it reads: take a part, such as `split="train[:2%]"`.',
    ),
    "fungi": Source(
        "1,394 species of fungi",
        "fungi_train_val.tgz",
        "13 GB",
        "https://labs.gbif.org/fgvcx/2018/fungi_train_val.tgz",
        f"Unpack it to images/SPECIES/, and {FOLDERS}",
    ),
    "traffic_sign": Source(
        "43 German traffic signs",
        "GTSRB_Final_Training_Images.zip",
        "276 MB",
        "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
        "published-archive.html",
        "Unzip it, convert the .ppm images to .png in their folders, and " + FOLDERS,
    ),
    "mscoco": Source(
        "80 kinds of things in photos",
        "train2017.zip and annotations_trainval2017.zip",
        "20 GB",
        "https://cocodataset.org/#download",
        "Cut out the boxes of instances_train2017.json into a folder for each "
        f"category, and {FOLDERS}",
    ),
}
