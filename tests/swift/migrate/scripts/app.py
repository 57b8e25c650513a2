from swift.llm import AppUIArguments, app_ui_main

app_ui_main(AppUIArguments(ckpt_dir="/data/out/identity-merged", eval_human=True))
