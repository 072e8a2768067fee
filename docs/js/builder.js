/* Writes the files and commands for a choice of data, network and machine. `facts` is what bddn itself knows: kinds of
   data, networks and recipes, as docs/making/builder_facts.py reads them when the site is built. Knows no page. */
const Builder = (() => {
  const EXTRAS = {nsd: "hdf5"};
  const OWN = "own";
  const PLAIN = /^[\w@%+=:,./-]+$/;

  /** What can be chosen: for each field its question and its answers, [value, words]. */
  function questions(facts) {
    return {
      data: ["Which data?", facts.data.map((kind) => [kind.kind, `${kind.words} (${kind.kind}:)`])],
      network: ["Which network?", [
        [OWN, "a network of your own (torch module)"],
        ...facts.networks.map((one) => [one.name, `${one.title} (${one.name})`]),
      ]],
      machine: ["Which machine?", [
        ["here", "this computer; a GPU is used if there is one"],
        ["gpus", "this computer, with 4 GPUs"],
        ["slurm", "SLURM, an array of jobs"],
        ["jobqueue", "SLURM, through dask-jobqueue"],
        ["dask", "a dask cluster that runs already"],
      ]],
      store: ["Where is the feature cache kept?", [["disk", "on a disk"], ["s3", "in an object store (S3)"]]],
      recipe: ["Which recipe?", [
        ["fast", "fast: for everything but comparisons with the paper"],
        ["paper", "paper: the published settings"],
      ]],
      split: ["What is a score to tell?", [
        ["random", "how well images of the same kind are predicted"],
        ["clusters", "how well images unlike the training images are predicted"],
        ["file", "the score on a published test set of the data, or of another run"],
      ]],
      aim: ["How sure must the map be?", [
        ["once", "one fit: means of regions"],
        ["ensemble", "an interval for every voxel: 20 fits"],
        ["seeds", "three seeds, to compare networks"],
      ]],
    };
  }

  /** Write everything for a choice: files [{name, text}] and steps [{words, commands}]. */
  function write(choice, facts) {
    const kind = facts.data.find((one) => one.kind === choice.data);
    const known = facts.networks.find((one) => one.name === choice.network);
    const data = quoted(choice.name || kind.name);
    const network = known ? known.name : "mynet.yaml";
    const title = known ? known.name : "mynet";
    const cache = choice.store === "s3" ? `s3://bucket/${title}.zarr` : `build/${title}.zarr`;
    const plants = choice.data === "planted" || choice.network === "demo";
    const files = [];
    if (!known) files.push({name: "mynet.yaml", text: ownNetwork()});
    const spec = choice.split === "random" ? choice.recipe : "fit.yaml";
    if (spec === "fit.yaml") files.push({name: spec, text: settings(choice, kind, facts)});

    const steps = [
      {words: "Install", commands: [install(choice, known)]},
      {words: "The data: what is there, and what does not fit", commands: [
        ...(plants ? ["bddn plant build/demo"] : []),
        ...(choice.data === "table" ? ["bddn data init mylab --out mylab/data.yaml"] : []),
        `bddn data check ${data}`,
      ]},
      {words: "The network: its weights, and what would be cached", commands: [
        ...(known?.downloads ? [`bddn fetch ${network}`] : []),
        `bddn backbones show ${network}`,
        `bddn plan ${network} --data ${data} --out ${cache}`,
      ]},
      {words: "Stage one: images to tokens, once", commands: [extraction(choice, network, data, cache)]},
    ];
    if (choice.split === "file" && kind.test) {
      steps.push({words: "The test images", commands: [`bddn data split ${data} ${kind.test} --out split.json`]});
    }
    return {files, steps: [...steps, ...fits(choice, spec, data, cache, title)]};
  }

  function install(choice, known) {
    const extras = [EXTRAS[choice.data], known?.extra, choice.store === "s3" && "s3", choice.machine === "jobqueue" && "slurm"];
    const found = [...new Set(extras.filter(Boolean))].sort();
    return found.length ? `pip install 'bddn[${found.join(",")}]'` : "pip install bddn";
  }

  function extraction(choice, network, data, cache) {
    const bddn = `bddn extract ${network} --data ${data} --out ${cache}`;
    return {
      here: bddn,
      gpus: `${bddn} --workers 4`,
      slurm: `sbatch --array=1-8 --gres=gpu:1 pipelines/extract_array.slurm ${network} ${data} ${cache}`,
      jobqueue: `python pipelines/extract_jobqueue.py ${network} ${data} ${cache} --workers 8`,
      dask: `${bddn} --scheduler tcp://node1:8786`,
    }[choice.machine];
  }

  function fits(choice, spec, data, cache, title) {
    const recipe = spec === "fast" ? "" : ` --spec ${spec}`;  // the default needs no word
    const many = {here: "", gpus: " --workers 4", dask: " --scheduler tcp://node1:8786"}[choice.machine] ?? "";
    const submitted = choice.machine === "slurm" || choice.machine === "jobqueue";
    const job = (line) => (submitted ? `sbatch --gres=gpu:1 --cpus-per-task=4 --mem=32G --time=08:00:00 --wrap ${quoted(line)}` : line);
    const out = `build/${title}`;
    if (choice.aim === "once") {
      return [
        {words: "Stage two: the fit", commands: [job(`bddn fit ${cache} --data ${data} --out ${out}_run${recipe}`)]},
        {words: "Numbers and pictures", commands: [...numbers(`${out}_run`, data, cache), `bddn film ${out}_run`]},
      ];
    }
    if (choice.aim === "ensemble") {
      const line = `bddn ensemble ${cache} --data ${data} --out ${out}_many --fits 20${recipe}${many}`;
      return [
        {words: "Stage two: twenty fits on one split", commands: [job(line)]},
        {words: "Numbers and pictures", commands: numbers(`${out}_many/ensemble`, data, cache)},
      ];
    }
    const line = `bddn fit-many ${cache} --data ${data} --out build/many --seeds 0-2 --split-seed 0${recipe}${many}`;
    return [
      {words: "Stage two: three fits; the same line for every network, or all caches in one", commands: [job(line)]},
      {words: "Numbers of all networks", commands: [
        `bddn score build/many/*/*/* --cache ${cache} --data ${data}`,
        "bddn compare build/many/*/*/* --out build/compared",
        "bddn diagnose build/many/*/*/* --out build/diagnosis",
      ]},
    ];
  }

  function numbers(run, data, cache) {
    return [
      `bddn score ${run} --cache ${cache} --data ${data}`,
      `bddn check ${run} --cache ${cache} --data ${data}`,
      `bddn hierarchy ${run}`,
      `bddn maps ${run}`,
      `bddn report ${run}`,
    ];
  }

  function ownNetwork() {
    return [
      "title: My network",
      "backbone:",
      "  module: mynets:build      # build() in mynets.py returns the torch module",
      '  layers: ["blocks.*"]      # names or globs, as named_modules() gives them',
      "image_size: 224",
      "global_token: mean          # cls, if it has a CLS token",
      "",
    ].join("\n");
  }

  function settings(choice, kind, facts) {
    const file = kind.test ? "split.json" : "build/other_run/split.json";
    const by = choice.split === "clusters" ? "{clusters: 50}" : `{file: ${file}}`;
    const fields = Object.entries(facts.recipes[choice.recipe]).map(([name, value]) => `${name}: ${JSON.stringify(value)}`);
    return [`# the recipe ${choice.recipe}, with another split`, ...fields, `split_by: ${by}`, "split_seed: 0", ""].join("\n");
  }

  function quoted(word) {
    return PLAIN.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
  }

  return {questions, write};
})();
