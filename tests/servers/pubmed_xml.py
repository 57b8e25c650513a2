"""PubMed's XML, made up: citations, and sets of them with their deletions."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

_DOCTYPE = (
    '<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2025//EN" '
    '"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">'
)


def citation(
    pmid: int,
    title: str = "",
    abstract: str | None = "",
    version: int = 1,
    retracted_in: str | None = None,
    retracted_type: bool = False,
) -> str:
    """A citation; its title and its abstract name its PMID if they are not given.

    :param abstract: ``None`` leaves it out: such a citation becomes no record.
    :param retracted_in: where the notice stands that retracts it.
    :param retracted_type: it has the publication type of a retracted paper.
    """
    title = title or f"Trial {pmid} of a made-up remedy."
    text = abstract if abstract is None else abstract or f"In trial {pmid}, the remedy did neither good nor harm."
    kinds = ["Journal Article", *(["Retracted Publication"] if retracted_type else [])]
    notice = f"""<CommentsCorrectionsList><CommentsCorrections RefType="RetractionIn">
<RefSource>{escape(retracted_in or "")}</RefSource>
<PMID Version="1">99999999</PMID></CommentsCorrections></CommentsCorrectionsList>"""
    return f"""<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="{version}">{pmid}</PMID>
<Article PubModel="Print"><Journal><Title>Journal of Made-up Results</Title></Journal>
<ArticleTitle>{escape(title)}</ArticleTitle>
{"" if text is None else f"<Abstract><AbstractText>{escape(text)}</AbstractText></Abstract>"}
<Language>eng</Language>
<PublicationTypeList>{"".join(f"<PublicationType>{kind}</PublicationType>" for kind in kinds)}</PublicationTypeList>
</Article>{notice if retracted_in else ""}</MedlineCitation></PubmedArticle>
"""


def article_set(citations: Iterable[str], deletions: Iterable[int] = ()) -> bytes:
    """A file's content: the citations, then the PMIDs that are withdrawn."""
    pmids = "".join(f'<PMID Version="1">{pmid}</PMID>\n' for pmid in deletions)
    deleted = f"<DeleteCitation>\n{pmids}</DeleteCitation>\n" if pmids else ""
    body = "".join(citations)
    return f"""<?xml version="1.0" encoding="utf-8"?>
{_DOCTYPE}
<PubmedArticleSet>
{body}{deleted}</PubmedArticleSet>
""".encode()
