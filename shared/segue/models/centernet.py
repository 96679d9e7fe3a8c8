"""CenterNet with MobileNetV3 as ONNX: objects of the 80 classes of COCO.

Zhou, Wang, Kraehenbuehl: "Objects as Points", 2019 (arXiv:1904.07850). An object is a peak in the
heat map of its class, at its centre. Howard et al.: "Searching for MobileNetV3", ICCV 2019. The
weights are those of github.com/610265158/mobilenetv3_centernet, which the package @vladmandic/human
has.

The input ``images`` is [batch, 3, 512, 512], RGB from 0 to 255. The outputs have a cell for each
square of 4 x 4 pixels: ``heat`` [batch, 80, 128, 128], how likely an object of a class has its
centre there, and ``reach`` [batch, 4, 128, 128], how far it goes from there to the left, up, right
and down, in pixels.
"""

from __future__ import annotations

from pathlib import Path

from segue.models.onnx_writer import OnnxGraph
from segue.models.tfjs_graph import TfjsGraph, write_layers

SIDE = 512  # of a picture
STRIDE = 4  # of a cell
CELLS = SIDE // STRIDE
# The classes in their order: categories 1 to 90 of COCO, of which 80 are in use.
CLASSES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog"),
    *("horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella"),
    *("handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite"),
    *("baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle"),
    *("wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich"),
    *("orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote"),
    *("keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book"),
    *("clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
IMAGES, HEAT, REACH = "tower_0/images", "tower_0/keypoints", "tower_0/wh"


def convert(source: Path, target: Path) -> None:
    """Write the ONNX file of the folder with the models of @vladmandic/human."""
    graph = OnnxGraph("centernet")
    images = graph.add_input("images", ["batch", 3, SIDE, SIDE])
    model = TfjsGraph(source / "centernet.json")
    heat, reach = write_layers(model, graph, {IMAGES: images}, [HEAT, REACH])
    graph.add_output("heat", heat, ["batch", len(CLASSES), CELLS, CELLS])
    graph.add_output("reach", reach, ["batch", 4, CELLS, CELLS])
    target.write_bytes(graph.encode())
