# The sources of the pipelines' image, and their hash, which is the image's tag.

locals {
  root = "${path.root}/.."
  lock = "${dirname(var.graph)}/segue.lock"
  # Models run on GPUs with other packages, which bring CUDA.
  packages = var.packages != null ? var.packages : alltrue([for gpu in values(local.pipeline_gpu) : gpu == "none"]) ? "locks/pipelines.txt" : "locks/pipelines-gpu.txt"
  sources = sort([
    for file in setunion([local.packages], var.sources != null ? var.sources : setunion(
      fileset(local.root, "shared/**"),
      fileset(local.root, "cli/**"),
      fileset(local.root, "console/**"),
      fileset(local.root, "pipelines/**"),
      fileset(local.root, "infra/container/{Dockerfile,*.py}"),
      ["locks/build.txt", "pyproject.toml"],
    )) : file if !can(regex("__pycache__|\\.pyc$|(^|/)\\.", file)) # no caches or hidden files
  ])
  source_hash = substr(sha256(join("\n", concat(
    [for file in local.sources : "${file} ${filesha256("${local.root}/${file}")}"],
    ["jobs.yaml ${filesha256(var.graph)}"],
    fileexists(local.lock) ? ["segue.lock ${filesha256(local.lock)}"] : [],
    var.base_images == null ? [] : [for name, image in var.base_images : "${name} ${image}"],
  ))), 0, 16)

  # Docker can only use files inside the folder that it builds from.
  graph_in_sources = trimprefix(var.graph, "../")
}
